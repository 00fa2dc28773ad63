//! `Context::cancelled`: methods are notified when their call is cancelled.

use std::time::Duration;

use palm::prelude::*;
use palm::testing::Direct;

use super::super::setup::{ANY, Gate, check, connect, soon};

/// Methods that stop early. `stopped` counts those that have noticed.
struct Patient {
    begun: Gate,
    stopped: Gate,
}

#[palm::server(name = "patient")]
impl Patient {
    /// Never returns.
    #[palm::method]
    async fn wait(&self, context: Context) -> String {
        assert!(!context.is_cancelled());
        self.begun.count_one();
        context.cancelled().await;
        assert!(context.is_cancelled());
        self.stopped.count_one();
        std::future::pending().await
    }

    #[palm::method(max_runtime_ms = 50)]
    async fn limited(&self, context: Context) -> String {
        context.cancelled().await;
        self.stopped.count_one();
        String::new()
    }

    /// Blocks a thread until its call is cancelled.
    #[palm::method(blocking)]
    fn block(&self, context: Context) -> String {
        self.begun.count_one();
        while !context.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.stopped.count_one();
        String::new()
    }

    /// Leaves a task behind, which ends with the call.
    #[palm::method]
    fn leave(&self, context: Context) -> String {
        let stopped = self.stopped.clone();
        tokio::spawn(async move {
            context.cancelled().await;
            stopped.count_one();
        });
        "left".to_owned()
    }
}

fn patient() -> (Patient, Gate, Gate) {
    let (begun, stopped) = (Gate::closed(), Gate::closed());
    let patient = Patient {
        begun: begun.clone(),
        stopped: stopped.clone(),
    };
    (patient, begun, stopped)
}

#[test]
fn method_notices_that_its_call_is_cancelled() {
    check(async {
        let (server, begun, stopped) = patient();
        let server = server.bind(ANY).concurrency(2).spawn().await.unwrap();
        let client = connect("patient", &server).await;
        for (number, function) in [Patient::WAIT, Patient::BLOCK].into_iter().enumerate() {
            let call = {
                let client = client.clone();
                tokio::spawn(async move { client.eval(function, ()).await })
            };
            begun.arrived(number + 1).await;
            assert_eq!(stopped.count(), number);
            call.abort();
            stopped.arrived(number + 1).await;
        }
    });
}

#[test]
fn method_notices_that_its_client_is_gone() {
    check(async {
        let (server, begun, stopped) = patient();
        let server = server.bind(ANY).spawn().await.unwrap();
        let client = connect("patient", &server).await;
        let call = tokio::spawn(async move { client.eval(Patient::WAIT, ()).await.map(drop) });
        begun.arrived(1).await;
        // The last clone of the client is dropped with the task.
        call.abort();
        stopped.arrived(1).await;
    });
}

#[test]
fn method_notices_that_its_deadline_has_passed() {
    check(async {
        let (server, _, stopped) = patient();
        let server = server.bind(ANY).concurrency(3).spawn().await.unwrap();
        let client = connect("patient", &server).await;
        for function in [Patient::WAIT, Patient::BLOCK] {
            let call = client
                .eval(function, ())
                // Long enough for the method to begin, also on a busy machine.
                .timeout(Duration::from_secs(1));
            // The blocking method may return just before the client stops waiting.
            let _ = soon("the end", call.into_future()).await;
        }
        stopped.arrived(2).await;
        // The runtime of a method is limited without a deadline of its caller.
        let call = client.eval(Patient::LIMITED, ()).into_future();
        assert!(soon("the limit", call).await.is_err());
        stopped.arrived(3).await;
    });
}

#[test]
fn method_notices_that_its_component_stops() {
    check(async {
        let (server, begun, stopped) = patient();
        let server = server.bind(ANY).drain_limit(Duration::from_millis(50));
        let server = server.spawn().await.unwrap();
        let client = connect("patient", &server).await;
        let call = tokio::spawn(async move { client.eval(Patient::BLOCK, ()).await.map(drop) });
        begun.arrived(1).await;
        let _ = soon("the end", server.shutdown()).await;
        stopped.arrived(1).await;
        call.abort();
    });
}

#[test]
fn task_that_outlives_its_method_notices_the_end_of_the_call() {
    check(async {
        let (server, _, stopped) = patient();
        let direct = Direct::new(server);
        assert_eq!(direct.call(Patient::LEAVE, ()).await.unwrap(), "left");
        stopped.arrived(1).await;
    });
}
