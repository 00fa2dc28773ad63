//! What a program can start: its linked components, and masters and hubs without hooks for its workers.

use std::collections::BTreeSet;

use palm_plan::Kind;

use super::constructor::ConstructedComponent;
use super::error::ProgramError;
use super::kind::ProgramKind;
use crate::function::nearest;
use crate::linked_components::{PlainHub, PlainMaster, Registration, StartComponent, components};

/// A component that is linked into the program, or a master or hub without hooks.
pub(super) struct CatalogEntry {
    pub(super) kind: ProgramKind,
    /// The name by which the program starts it: the declared one, or the type's if several components have that.
    pub(super) handle: String,
    /// The name that its macro declares; for a worker that of its master, or `_`.
    pub(super) declared: String,
    pub(super) registration: Option<&'static Registration>,
    pub(super) starter: Option<ComponentStarter>,
}

/// The starter of a default value, of the registration, or that of the program.
pub(super) enum ComponentStarter {
    Linked(&'static dyn StartComponent),
    Own(Box<dyn StartComponent>),
}

impl ComponentStarter {
    pub(super) fn get(&self) -> &dyn StartComponent {
        match self {
            Self::Linked(starter) => *starter,
            Self::Own(starter) => &**starter,
        }
    }
}

impl CatalogEntry {
    pub(super) fn type_name(&self) -> &'static str {
        match (self.registration, self.kind) {
            (Some(registration), _) => registration.type_name,
            (None, ProgramKind::HUB) => "palm::Hub",
            (None, _) => "palm::Master",
        }
    }

    /// The first line of its documentation, or empty.
    pub(super) fn doc(&self) -> &'static str {
        match (self.registration, self.kind) {
            (Some(registration), _) => registration.doc,
            (None, ProgramKind::HUB) => "A hub without hooks.",
            (None, _) => "A master without hooks.",
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.handle == name || self.declared == name || self.type_name() == name
    }
}

/// All components that a program can start, by kind and name.
pub(super) struct Catalog(Vec<CatalogEntry>);

impl Catalog {
    /// Returns the linked components; `constructed` replace the default values of theirs.
    pub(super) fn new(constructed: Vec<ConstructedComponent>) -> Self {
        Self::of(components(), constructed)
    }

    fn of(linked: Vec<&'static Registration>, mut constructed: Vec<ConstructedComponent>) -> Self {
        let entry = |registration: &'static Registration, starter| CatalogEntry {
            kind: registration.kind.into(),
            handle: registration.name.to_owned(),
            declared: registration.name.to_owned(),
            registration: Some(registration),
            starter,
        };
        let mut entries: Vec<_> = linked
            .into_iter()
            .map(|registration| {
                let is_constructed =
                    |it: &mut ConstructedComponent| it.registration == registration;
                let own = constructed.extract_if(.., is_constructed).next();
                let starter = match own {
                    Some(own) => Some(ComponentStarter::Own(own.starter)),
                    None => registration.starter.start.map(ComponentStarter::Linked),
                };
                entry(registration, starter)
            })
            .collect();
        // A generic type is in the list once, without its arguments; the program names them.
        entries.extend(constructed.into_iter().map(|it| {
            let starter = ComponentStarter::Own(it.starter);
            entry(it.registration, Some(starter))
        }));
        let plain = plain(&entries);
        entries.extend(plain);
        name_by_type(&mut entries);
        entries.sort_by(|one, other| (one.kind, &one.handle).cmp(&(other.kind, &other.handle)));
        Self(entries)
    }

    pub(super) fn entries(&self) -> &[CatalogEntry] {
        &self.0
    }

    pub(super) fn of_kind(&self, kind: ProgramKind) -> impl Iterator<Item = &CatalogEntry> {
        self.0.iter().filter(move |entry| entry.kind == kind)
    }

    /// Returns the workers of a master or hub.
    pub(super) fn workers_of(&self, entry: &CatalogEntry) -> Vec<&CatalogEntry> {
        let is_of = |worker: &&CatalogEntry| [&*entry.declared, "_"].contains(&&*worker.declared);
        self.of_kind(ProgramKind::WORKER).filter(is_of).collect()
    }

    /// Returns the component of this kind and name, or the only one of the kind.
    ///
    /// # Errors
    ///
    /// There is none, or more than one.
    pub(super) fn find(
        &self,
        kind: ProgramKind,
        name: Option<&str>,
    ) -> Result<&CatalogEntry, ProgramError> {
        let command = kind.name();
        let all: Vec<_> = self.of_kind(kind).collect();
        let handles: Vec<_> = all.iter().map(|entry| &*entry.handle).collect();
        if all.is_empty() {
            return Err(ProgramError::mistake(format!(
                "no {command} is linked into this program. A library is linked only if the program names it: write \
                 `use my_components as _;`. Without arguments the program lists what it has"
            )));
        }
        let found: Vec<_> = match name {
            Some(name) => match all.iter().find(|entry| entry.handle == name) {
                Some(entry) => vec![*entry],
                None => all.into_iter().filter(|it| it.is_called(name)).collect(),
            },
            // Masters and hubs without hooks are there for any worker.
            None => {
                let is_declared = |entry: &&CatalogEntry| entry.registration.is_some();
                match all.iter().copied().filter(is_declared).collect::<Vec<_>>() {
                    declared if declared.len() == 1 => declared,
                    _ => all,
                }
            }
        };
        match (&*found, name) {
            ([entry], _) => Ok(*entry),
            ([], name) => Err(ProgramError::mistake(format!(
                "no {command} `{}` is linked into this program; {}",
                name.unwrap_or_default(),
                nearest(name.unwrap_or_default(), &handles),
            ))),
            (several, _) => {
                let handles: Vec<_> = several
                    .iter()
                    .map(|it| format!("`{}`", it.handle))
                    .collect();
                Err(ProgramError::mistake(format!(
                    "this program has several components of the kind {command}: name one of {}",
                    handles.join(", ")
                )))
            }
        }
    }
}

/// Returns a master and a hub without hooks for each name of a master that workers declare and the program does not link.
fn plain(entries: &[CatalogEntry]) -> Vec<CatalogEntry> {
    let workers = entries.iter().filter(|it| it.kind == ProgramKind::WORKER);
    let names: BTreeSet<_> = workers.map(|worker| worker.declared.clone()).collect();
    let is_linked = |name: &str| {
        let named = entries.iter().filter(|entry| entry.declared == name);
        named.map(|entry| entry.kind).any(ProgramKind::has_workers)
    };
    let missing = names
        .into_iter()
        .filter(|name| name != "_" && !is_linked(name));
    missing
        .flat_map(|name| {
            let master: Box<dyn StartComponent> = Box::new(PlainMaster(name.clone()));
            let hub: Box<dyn StartComponent> = Box::new(PlainHub(name.clone()));
            [(Kind::Master, master), (Kind::Hub, hub)].map(|(kind, starter)| CatalogEntry {
                kind: ProgramKind::Cluster(kind),
                handle: name.clone(),
                declared: name.clone(),
                registration: None,
                starter: Some(ComponentStarter::Own(starter)),
            })
        })
        .collect()
}

/// Names components by their type, and by its module if necessary, if the declared name does not identify them.
fn name_by_type(entries: &mut [CatalogEntry]) {
    let names: [fn(&CatalogEntry) -> String; 2] = [
        |entry| entry.type_name().to_owned(),
        |entry| match entry.registration {
            Some(it) => format!("{}::{}", it.declared_at, it.type_name),
            None => entry.handle.clone(),
        },
    ];
    for name in names {
        let handles: Vec<_> = entries
            .iter()
            .map(|it| (it.kind, it.handle.clone()))
            .collect();
        for entry in &mut *entries {
            let same = handles.iter();
            let same = same.filter(|(kind, it)| *kind == entry.kind && *it == entry.handle);
            if entry.handle == "_" || same.count() > 1 {
                entry.handle = name(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component_kind::ComponentKind;

    const fn linked(
        kind: ComponentKind,
        name: &'static str,
        type_name: &'static str,
        declared_at: &'static str,
    ) -> Registration {
        Registration::new(kind, name, type_name, declared_at, "", &[], &[])
    }

    static RESIZER: Registration = linked(ComponentKind::Worker, "images", "Resizer", "a");
    static CROPPER: Registration = linked(ComponentKind::MuxWorker, "images", "Cropper", "a");
    static OTHER_CROPPER: Registration = linked(ComponentKind::Worker, "images", "Cropper", "b");
    static ANY: Registration = linked(ComponentKind::Worker, "_", "Any", "a");
    static HUB: Registration = linked(ComponentKind::Hub, "images", "Tee", "a");
    static SERVER: Registration = linked(ComponentKind::Server, "words", "Words", "a");
    static WEB: Registration = linked(ComponentKind::HttpWorker, "images", "Web", "a");

    /// Returns the kinds and names of a program with these components.
    fn names(linked: &[&'static Registration]) -> Vec<String> {
        let catalog = Catalog::of(linked.to_vec(), Vec::new());
        let name = |entry: &CatalogEntry| format!("{} {}", entry.kind, entry.handle);
        catalog.entries().iter().map(name).collect()
    }

    /// Checks what a program finds by a name.
    fn check(linked: &[&'static Registration], kind: Kind, name: Option<&str>, expected: &str) {
        let catalog = Catalog::of(linked.to_vec(), Vec::new());
        let found = match catalog.find(ProgramKind::Cluster(kind), name) {
            Ok(entry) => entry.type_name().to_owned(),
            Err(error) => error.text(),
        };
        assert_eq!(found, expected, "{kind} {name:?}");
    }

    #[test]
    fn component_is_named_by_its_declaration_or_else_by_its_type_or_module() {
        assert_eq!(names(&[&SERVER]), ["server words"]);
        assert_eq!(
            names(&[&RESIZER]),
            ["master images", "hub images", "worker images"]
        );
        // The hub is linked, so the workers are those of no master.
        assert_eq!(names(&[&RESIZER, &HUB]), ["hub images", "worker images"]);
        assert_eq!(
            names(&[&RESIZER, &CROPPER, &HUB, &ANY]),
            [
                "hub images",
                "worker Any",
                "worker Cropper",
                "worker Resizer"
            ]
        );
        assert_eq!(
            names(&[&CROPPER, &OTHER_CROPPER, &HUB, &WEB]),
            [
                "hub images",
                "worker a::Cropper",
                "worker b::Cropper",
                "http_worker images",
            ]
        );
    }

    #[test]
    fn component_is_found_by_its_name_or_type_or_as_the_only_one() {
        check(&[&RESIZER], Kind::Worker, None, "Resizer");
        check(&[&RESIZER], Kind::Worker, Some("images"), "Resizer");
        check(&[&RESIZER], Kind::Worker, Some("Resizer"), "Resizer");
        check(
            &[&RESIZER, &CROPPER],
            Kind::Worker,
            Some("Cropper"),
            "Cropper",
        );
        check(&[&RESIZER], Kind::Master, None, "palm::Master");
        check(&[&RESIZER, &HUB, &SERVER], Kind::Hub, None, "Tee");
        check(
            &[&RESIZER, &CROPPER],
            Kind::Worker,
            Some("images"),
            "this program has several components of the kind worker: name one of `Cropper`, `Resizer`",
        );
        check(
            &[&RESIZER],
            Kind::Worker,
            Some("imagse"),
            "no worker `imagse` is linked into this program; did you mean `images`?",
        );
        check(
            &[&RESIZER],
            Kind::Sink,
            None,
            "no sink is linked into this program. A library is linked only if the program names it: write \
             `use my_components as _;`. Without arguments the program lists what it has",
        );
    }

    #[test]
    fn workers_of_a_master_are_those_that_declare_it_or_any() {
        let catalog = Catalog::of(vec![&RESIZER, &CROPPER, &ANY, &SERVER], Vec::new());
        let master = catalog.find(ProgramKind::Cluster(Kind::Master), Some("images"));
        let Ok(master) = master else {
            panic!("there is a master without hooks");
        };
        let workers = catalog.workers_of(master);
        let types: Vec<_> = workers.iter().map(|worker| worker.type_name()).collect();
        assert_eq!(types, ["Any", "Cropper", "Resizer"]);
    }
}
