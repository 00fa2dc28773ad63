use expect_test::{Expect, expect};

use super::*;
use crate::Cluster;

#[track_caller]
fn check(text: &str, expected: Expect) {
    let imported = import("Valuation 2017", text).unwrap();
    expected.assert_eq(&imported);
    Cluster::parse("cluster.toml", &imported).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(crate::format(&imported).unwrap(), imported);
}

#[test]
fn master_and_workers_share_sockets_by_their_names() {
    check(
        "[Word Master]\nScript = python3 master.py --verbose\n--name = words\n--pull = _1\n--pub = _2\n\
         --WorkerPull = _3\n--workerpush = _4\n--db = _5\n\n\
         ; the workers\n[Word Worker]\nScript = python3 worker.py {x}\n--db = _5\nConnected = Word Master\n\
         Role = Worker\nReplicas = 4\n",
        expect![[r##"
            #:schema ./cluster.schema.json
            name = "valuation-2017"

            # Word Master
            [components.word-master]
            kind = "master"
            name = "words"
            command = "python3"
            args = ["master.py", "--verbose", "--name", "words", "--pull", "{pull}", "--pub", "{pub}", "--workerpull", "{worker_pull}", "--workerpush", "{worker_push}", "--db", "{db}"]

            # Word Worker
            [components.word-worker]
            kind = "worker"
            master = "word-master"
            command = "python3"
            args = ["worker.py", "{{x}}", "--db", "{word-master.db}"]
            replicas = 4
        "##]],
    );
}

#[test]
fn services_without_sockets_are_processes() {
    check(
        "[Echoer]\nScript = python3 echoer.py\nReplicas = 1",
        expect![[r##"
            #:schema ./cluster.schema.json
            name = "valuation-2017"

            # Echoer
            [components.echoer]
            kind = "process"  # is it a component of palm? Then write its kind, and its addresses as placeholders
            command = "python3"
            args = ["echoer.py"]
        "##]],
    );
}

#[test]
fn streams_of_connected_services_are_followed() {
    check(
        "[DEFAULT]\nReplicas = 1\n[Server]\nScript: server\n--db = _db\n--pull = _in\n--pub = _out\n\
         [Step]\nScript = step\nConnected = Server\n--sub = _out\n--db = _a\n--pub = _b\n\
         [Step!]\nScript = step\nConnected = Server\n--sub = _out\n--db = _c\n--pub = _d\n--level = 3 high\n\
         [Sink]\nScript = sink\nConnected = Step, Step!\n--one = _b\n--other = _d\n--db = _e\n--pub = _f\n",
        expect![[r##"
            #:schema ./cluster.schema.json
            name = "valuation-2017"

            # Server
            [components.server]
            kind = "server"
            # name = "..": the name that clients call, if the program states another one than the key
            command = "server"
            args = ["--db", "{db}", "--pull", "{pull}", "--pub", "{pub}"]

            # Step
            [components.step]
            kind = "pipeline"
            from = "server"
            command = "step"
            args = ["--sub", "{server.pub}", "--db", "{db}", "--pub", "{pub}"]

            # Step!
            [components.step-2]
            kind = "pipeline"
            from = "server"
            command = "step"
            args = ["--sub", "{server.pub}", "--db", "{db}", "--pub", "{pub}", "--level", "3", "high"]

            # Sink
            [components.sink]
            kind = "sink"
            from = ["step", "step-2"]
            command = "sink"
            args = ["--one", "{step.pub}", "--other", "{step-2.pub}", "--db", "{db}", "--pub", "{pub}"]
        "##]],
    );
}

#[test]
fn mistakes_name_the_section() {
    let error = |text| import("a", text).unwrap_err().to_string();
    assert_eq!(error("# nothing"), "it has no section for a service");
    assert_eq!(
        error("[A]\nRole = Worker"),
        "the section `A` has no `Script`"
    );
    assert_eq!(
        error("[A]\nScript = a\nConnected = B"),
        "the section `A` is connected to `B`, which does not exist"
    );
    assert_eq!(
        error("[A]\nScript = a\nReplicas = two"),
        "`Replicas` of the section `A` is `two`, and not a number"
    );
    assert!(error("[A\nScript = a").starts_with("it is not an INI file: line "));
}
