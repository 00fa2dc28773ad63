//! The processes of a cluster that `palm up` runs: what they use, and which of them are missing.

/// The processes of a cluster at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Processes {
    /// The components that should run, sorted by key.
    pub components: Vec<ComponentProcesses>,
    /// What an operator has to know about the runner itself, such as a full disk.
    pub warnings: Vec<String>,
}

/// The processes of one component.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ComponentProcesses {
    /// The key of the component in the file.
    pub key: String,
    /// The kind, such as `master`.
    pub kind: String,
    /// Its `db_address`, if it binds one.
    pub address: Option<String>,
    /// Its instances, sorted by number.
    pub instances: Vec<InstanceProcess>,
}

/// The process of one instance, which may be missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InstanceProcess {
    /// The instance, such as `worker/2`.
    pub id: String,
    /// The state, such as `backoff`.
    pub state: String,
    /// Whether the instance does its work, or has completed it.
    pub is_ready: bool,
    /// The state with its reason, as the rest of a sentence about the instance.
    pub sentence: String,
    /// The process.
    pub pid: Option<u32>,
    /// The number of the run, from 1; 0 before the first.
    pub run: u32,
    /// Runs that ended on their own.
    pub exits: u32,
    /// How the last run ended that was not asked to end, as the rest of a sentence.
    pub last_exit: Option<String>,
    /// The processors that it uses: 1 is one of them.
    pub cpu: Option<f64>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
}

impl Processes {
    /// Returns the processes of the component with this key.
    pub fn component(&self, key: &str) -> Option<&ComponentProcesses> {
        self.components.iter().find(|it| it.key == key)
    }
}

impl ComponentProcesses {
    /// Returns how many instances are ready, or are jobs that run.
    pub fn ready(&self) -> usize {
        self.instances.iter().filter(|it| it.is_ready).count()
    }

    /// Returns the processors that the processes use, if that was measured.
    pub fn cpu(&self) -> Option<f64> {
        let used = self.instances.iter().filter_map(|it| it.cpu);
        used.reduce(|all, used| all + used)
    }

    /// Returns the memory that the processes use.
    pub fn memory_bytes(&self) -> Option<u64> {
        let used = self.instances.iter().filter_map(|it| it.memory_bytes);
        used.reduce(|all, used| all + used)
    }

    /// Returns how many runs ended on their own.
    pub fn exits(&self) -> u32 {
        self.instances.iter().map(|it| it.exits).sum()
    }

    /// Returns how the last run ended of the instance that has ended most often, with its name if there are several.
    pub fn last_exit(&self) -> Option<String> {
        let ended = self.instances.iter().filter(|it| it.last_exit.is_some());
        let worst = ended.max_by_key(|it| it.exits)?;
        let last_exit = worst.last_exit.as_deref()?;
        Some(match self.instances.len() {
            1 => last_exit.to_owned(),
            _ => format!("{} {last_exit}", worst.id),
        })
    }

    /// Returns a sentence for each instance that is not ready.
    pub fn gaps(&self) -> Vec<String> {
        let missing = self.instances.iter().filter(|it| !it.is_ready);
        missing
            .map(|it| format!("{} {}", it.id, it.sentence))
            .collect()
    }
}
