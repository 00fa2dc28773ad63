//! The codes of mistakes: one table.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// How bad a mistake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The cluster cannot run.
    Error,
    /// The cluster runs, but probably not as intended.
    Warning,
}

macro_rules! codes {
    ($($number:literal $severity:ident $variant:ident: $doc:literal,)*) => {
        /// The code of a mistake. `palm explain CODE` shows its section of the chapter "Errors in a cluster's file".
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $doc] $variant,)*
        }

        impl Code {
            /// All codes, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the code as it is shown, such as `P010`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $number,)*
                }
            }

            /// Returns the title of the code's section in the documentation.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc.trim_end_matches('.'),)*
                }
            }

            /// Returns whether the cluster can run with the mistake.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$variant => Severity::$severity,)*
                }
            }
        }
    };
}

codes! {
    // The text.
    "P001" Error Syntax: "The file is not TOML.",
    "P002" Error UnknownKey: "An unknown key.",
    "P003" Error WrongType: "A value of another type.",
    "P004" Error MissingKey: "A required key is missing.",
    "P005" Error KeyOfOtherKind: "A key of components of another kind.",
    "P006" Error Conflict: "Keys that exclude each other.",
    "P007" Error UnknownWord: "A word that is not one of the possible ones.",
    "P008" Error MalformedName: "A malformed name.",
    "P009" Error MalformedDuration: "A malformed duration.",
    "P010" Error MalformedAddress: "A malformed address.",
    "P011" Error MalformedPlaceholder: "A malformed or unknown placeholder.",
    "P012" Error OutOfRange: "A number out of range.",
    "P013" Error LiteralSecret: "A secret in the file.",
    "P014" Error MalformedSize: "A malformed size.",
    "P015" Error LogSizesReversed: "Sizes of log files that exclude each other.",
    // The graph.
    "P020" Error UnknownReference: "A reference to nothing.",
    "P021" Error WrongKind: "A component of the wrong kind at the other end.",
    "P022" Error Cycle: "A cycle.",
    "P023" Error NoEntryPoint: "No server or master.",
    "P024" Error NoPathBack: "No path back to the client.",
    "P025" Error TopicNotEmitted: "A topic that is never published.",
    "P026" Warning TopicNotFollowed: "A topic that no component follows.",
    "P027" Error ReplicasOfBound: "Replicas of a component that binds.",
    "P028" Error ReplicasReversed: "Bounds of replicas that exclude each other.",
    "P029" Warning NoWorkers: "A master or hub without workers.",
    "P030" Error SeveralUpstream: "Several upstream components of one that follows a single one.",
    "P031" Error DuplicateName: "A name that clients cannot tell from another.",
    "P032" Error NoRoute: "A call that no component answers.",
    "P033" Error ProfileMismatch: "A component that needs one of another profile.",
    // Addresses.
    "P040" Error DuplicateAddress: "An address that is used twice.",
    "P041" Error OpenAddress: "An open address without keys.",
    "P042" Error AddressNotTold: "A command that does not learn an address.",
    "P043" Error AnswersUnreachable: "Answers that clients outside cannot receive.",
    // What is outside of the file.
    "P050" Error CommandNotFound: "A command that does not exist.",
    "P051" Error NotListed: "A program that cannot be asked for its components.",
    "P052" Error NotLinked: "A component that the program does not have.",
    "P053" Error AmbiguousComponent: "A program with several fitting components.",
    "P054" Error NotStartable: "A component that cannot be started.",
    "P055" Error UnknownFunction: "A function that the program does not have.",
    "P056" Error InvalidOptions: "Unknown or malformed options.",
    "P057" Error AddressTaken: "A port that is taken.",
    "P058" Error SecretMissing: "A secret that does not exist.",
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A text is not a [`Code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no mistake with the code `{0}`: the codes are P001 to P058, see `palm explain --list`"
)]
pub struct UnknownCode(
    /// The text.
    pub String,
);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let mut all = Self::ALL.iter();
        let found = all.find(|code| code.name().eq_ignore_ascii_case(text));
        found.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}
