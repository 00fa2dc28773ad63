//! [`MasterConnection`]: the options of a worker's two parts, and how they find their master.

use std::sync::Arc;

use tokio::sync::{OnceCell, watch};

use super::{ResultConnection, TaskConnection};
use crate::call_slots::Prefetch;
use crate::discovery::{Directory, Endpoint, IntoAddress, ParsedAddress};
use crate::message::new_id;
use crate::method::{FunctionInfo, Receiver, Results};
use crate::socket::{SocketError, SocketOptions};

/// A worker's connection to its master, for a component that is composed of parts.
///
/// Its two [parts](Self::parts) are those of every worker: a [`TaskConnection`], which receives tasks, and a
/// [`ResultConnection`], which sends their results. What runs the tasks is up to the component: an
/// [`Executor`](crate::Executor), a [`Handler`](crate::parts::Handler) as in the example, or another part of your own,
/// which may pass them to a process in another language or to a device. Such an [`Outbound`](crate::part::Outbound) calls
/// [`Message::begin_task`](crate::Message::begin_task) before it runs a task, and
/// [`Message::finish_task`](crate::Message::finish_task) before it sends the last result. Tasks are redelivered as those of
/// other workers.
///
/// ```
/// use palm::callable::Emit;
/// use palm::part::OutboundHooks;
/// use palm::parts::{Handler, MasterConnection};
/// use palm::prelude::*;
/// use palm::{CallFailure, Message, ServerTemplate};
///
/// /// Runs the tasks, one at a time.
/// struct Device;
///
/// impl OutboundHooks for Device {
///     async fn handle(
///         &mut self,
///         task: Message,
///         _: Context,
///         emit: &mut Emit<'_>,
///     ) -> Result<(), CallFailure> {
///         let reading = format!("{} bytes", task.payload().len());
///         emit.send(task.with_payload(reading)).await;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let master = Master::new("devices").bind("tcp://127.0.0.1:0").spawn().await?;
///
/// let connection = MasterConnection::connect(master.db_address()).function("measure");
/// let (tasks, results) = connection.parts();
/// let mut worker = ServerTemplate::new("device");
/// worker.register_inbound(tasks, "Tasks").route("Device");
/// worker.register_outbound(Handler::new(Device), "Device").route("Results");
/// worker.register_outbound(results, "Results");
/// let worker = worker.spawn().await?;
///
/// let client = Client::connect("devices", master.db_address()).await?;
/// assert_eq!(client.eval("devices.measure", b"abc").await?, "3 bytes");
/// worker.shutdown().await?;
/// master.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MasterConnection {
    master: MasterPeer,
    functions: Vec<FunctionInfo>,
    concurrency: Option<usize>,
    prefetch: Prefetch,
}

impl MasterConnection {
    /// Connects to the master or hub with this `db_address` when the component starts.
    ///
    /// The start fails if it is not an address, or one that can only be bound. A master that is not there yet is waited
    /// for.
    pub fn connect(db_address: impl IntoAddress) -> Self {
        Self {
            master: MasterPeer {
                db_address: db_address.into_address(),
                directory: OnceCell::new(),
                push_address: None,
                pull_address: None,
            },
            functions: Vec::new(),
            concurrency: None,
            prefetch: Prefetch::Measured,
        }
    }

    /// Adds a function that the component runs: `"measure"` is called as `devices.measure` at a master called `devices`.
    ///
    /// The start fails if the name has a dot or white space. The master sends tasks of these functions, and of those of an
    /// [`Executor`](crate::Executor) in the component.
    #[must_use]
    pub fn function(mut self, name: impl Into<String>) -> Self {
        let mut function =
            FunctionInfo::new("", "", ("", ""), Receiver::Shared, Results::One, false);
        function.name = name.into().into();
        self.functions.push(function);
        self
    }

    /// Sets the number of tasks that the component runs at the same time. Default: that of its
    /// [`Executor`](crate::Executor), or 1 without one.
    ///
    /// The master sends as many tasks, and those that are prefetched.
    #[must_use]
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.concurrency = Some(tasks);
        self
    }

    /// Sets the number of tasks that the component receives before it can run them. Default: as many as it completes in
    /// 10 ms, up to 1000.
    #[must_use]
    pub fn prefetch(mut self, tasks: u64) -> Self {
        self.prefetch = Prefetch::Fixed(tasks);
        self
    }

    /// Returns the part that receives tasks, and the one that results are routed to. Both have to be registered.
    pub fn parts(self) -> (TaskConnection, ResultConnection) {
        let master = Arc::new(self.master);
        let transport = watch::Sender::new(None);
        let results = ResultConnection {
            master: master.clone(),
            transport: transport.subscribe(),
        };
        let tasks = TaskConnection {
            master,
            functions: self.functions,
            concurrency: self.concurrency,
            prefetch: self.prefetch,
            transport,
        };
        (tasks, results)
    }

    /// Uses the directory of a master.
    pub(crate) fn to(directory: &Arc<Directory>, prefetch: Prefetch) -> Self {
        let mut connection = Self::connect(directory.request().address());
        connection.master.directory = OnceCell::new_with(Some(directory.clone()));
        connection.prefetch = prefetch;
        connection
    }

    /// Sets the addresses at which the master pushes tasks and pulls results. If one of them is set, no link is used.
    pub(crate) fn sockets(
        mut self,
        push_address: Option<ParsedAddress>,
        pull_address: Option<ParsedAddress>,
    ) -> Self {
        self.master.push_address = push_address;
        self.master.pull_address = pull_address;
        self
    }
}

/// The master, as both parts see it.
#[derive(Debug)]
pub(super) struct MasterPeer {
    db_address: ParsedAddress,
    directory: OnceCell<Arc<Directory>>,
    push_address: Option<ParsedAddress>,
    pull_address: Option<ParsedAddress>,
}

impl MasterPeer {
    /// Returns the directory of the master. The first part that is opened connects to it.
    pub(super) async fn directory(
        &self,
        options: &SocketOptions,
    ) -> Result<Arc<Directory>, SocketError> {
        let connect = || async {
            let db_address = self.db_address.clone()?;
            Directory::connect(&db_address, &new_id(), options).await
        };
        self.directory.get_or_try_init(connect).await.cloned()
    }

    /// Returns whether a link may be used: not if the user has configured addresses of sockets.
    pub(super) fn may_link(&self) -> bool {
        self.push_address.is_none() && self.pull_address.is_none()
    }

    // The keys are named from the master's side: it pushes where workers pull.

    pub(super) fn pull_from(&self, directory: &Arc<Directory>) -> Endpoint {
        endpoint(&self.push_address, directory, "worker_push_address")
    }

    pub(super) fn push_to(&self, directory: &Arc<Directory>) -> Endpoint {
        endpoint(&self.pull_address, directory, "worker_pull_address")
    }
}

fn endpoint(
    configured: &Option<ParsedAddress>,
    directory: &Arc<Directory>,
    key: &'static str,
) -> Endpoint {
    match configured {
        Some(configured) => Endpoint::Static(configured.clone()),
        None => Endpoint::Discovered(directory.clone(), key),
    }
}
