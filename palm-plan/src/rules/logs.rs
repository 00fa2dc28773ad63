//! The limits of log files.

use crate::cluster::Cluster;
use crate::mistake::{Code, Mistake, Mistakes};
use crate::read::size_text;

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    let logs = &cluster.logs;
    let (file, all) = (logs.limits.file_bytes, logs.limits.instance_bytes);
    if all >= file {
        return;
    }
    // One of them is stated, since the defaults fit together.
    let span = logs.instance_size.clone().or(logs.file_size.clone());
    let message = format!(
        "all files of an instance, {}, are smaller than one of them, {}",
        size_text(all),
        size_text(file)
    );
    let mut mistake = Mistake::new(Code::LogSizesReversed, span.unwrap_or(0..0), message);
    if let (Some(_), Some(file_size)) = (&logs.instance_size, &logs.file_size) {
        mistake = mistake.related(file_size.clone(), "the size of one file");
    }
    mistakes.push(
        mistake.help("`instance_size` is at least `file_size`, of which the default is \"16MiB\""),
    );
}
