//! Peers of components that are killed and restarted, at the same ports or at others.

use std::collections::BTreeMap;
use std::time::Duration;

use palm::prelude::*;
use palm::socket::Reply;

use super::super::process::Process;
use super::super::setup::{ANY, Gate, address, check, connect, options, soon, unbound};
use super::{Hand, Slow, Step, collect, numbers};

/// The first request for each key returns an unbound address, as if the component had been restarted in between.
#[test]
fn worker_with_a_stale_address_requests_another_from_its_master() {
    check(async {
        let gate = Gate::closed();
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let (mut reply, at) = Reply::bind(&address(ANY), &options()).await.unwrap();
        let addresses = master.addresses().clone();
        let gone = unbound();
        let directory = tokio::spawn(async move {
            let mut requests = BTreeMap::<String, usize>::new();
            while let Ok((frames, responder)) = reply.recv().await {
                let message = Message::decode(frames[0].clone()).unwrap();
                let key = String::from_utf8_lossy(message.payload()).into_owned();
                let times = requests.entry(key.clone()).or_default();
                *times += 1;
                let value = match addresses.get(&key) {
                    Some(_) if *times == 1 => gone.clone(),
                    Some(value) => value.clone(),
                    // For example the descriptor, which a legacy component does not have.
                    None => String::new(),
                };
                responder.reply(value.into()).unwrap();
            }
        });
        let _hand = Hand { gate }.connect(at).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let answer = client
            .eval("master.echo", "x")
            .timeout(Duration::from_secs(10));
        assert_eq!(answer.await.unwrap(), "x");
        assert!(!directory.is_finished());
    });
}

/// Calls until there is an answer, and asserts that further calls are answered.
async fn answers_again(client: &Client, steps: &str, expected: &str) {
    let again = async {
        loop {
            let eval = client.eval(steps, "x").timeout(Duration::from_millis(500));
            if let Ok(answer) = eval.await {
                return answer;
            }
        }
    };
    assert_eq!(
        soon(&format!("an answer to `{steps}`"), again).await,
        expected.to_owned()
    );
    for _ in 0..20 {
        let eval = client.eval(steps, "x").timeout(Duration::from_secs(5));
        assert_eq!(eval.await.unwrap(), expected.to_owned());
    }
}

fn same(addresses: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    addresses.iter().map(|(key, at)| (&**key, &**at)).collect()
}

/// Keeps only the `db_address`; all other ports change.
fn only_db_address(addresses: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    vec![("db_address", &addresses["db_address"])]
}

#[test]
fn client_reconnects_to_a_killed_and_restarted_server() {
    check(async {
        let mut server = Process::run_at_fixed_addresses("server", &[]).await;
        let client = Client::connect("slow", &server.addresses["db_address"]);
        let client = soon("connecting", client).await.unwrap();
        for where_to in [same, only_db_address, only_db_address] {
            answers_again(&client, "slow.echo", "x").await;
            client.set("k", "forgotten with the process").await.unwrap();
            let addresses = server.kill();
            server = Process::run("server", &where_to(&addresses)).await;
        }
        answers_again(&client, "slow.echo", "x").await;
        assert_eq!(client.get("k").await.unwrap(), None);
    });
}

#[test]
fn peers_reconnect_to_a_killed_and_restarted_master() {
    check(async {
        let mut master = Process::run_at_fixed_addresses("master", &[]).await;
        let db_address = master.addresses["db_address"].clone();
        let gate = Gate::closed();
        let _hand = Hand { gate }.connect(&db_address).spawn().await.unwrap();
        let client = soon("connecting", Client::connect("master", &db_address))
            .await
            .unwrap();
        for where_to in [same, only_db_address, only_db_address] {
            answers_again(&client, "master.echo", "x").await;
            let addresses = master.kill();
            master = Process::run("master", &where_to(&addresses)).await;
        }
        answers_again(&client, "master.echo", "x").await;
    });
}

#[test]
fn master_uses_the_replacement_of_a_killed_worker() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let db_address = [("db_address", master.db_address())];
        // Without a worker, the calls wait.
        let waiting = collect(&client, "master.echo", 10);
        for _ in 0..3 {
            let worker = Process::run("worker", &db_address).await;
            answers_again(&client, "master.echo", "x").await;
            worker.kill();
        }
        assert_eq!(soon("the first calls", waiting).await.unwrap(), numbers(10));
    });
}

#[test]
fn pipeline_is_replaced_after_a_kill() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate }
            .bind(ANY)
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let follow = ("follow", server.db_address());
        let mut step = Process::run_at_fixed_addresses("step", &[follow]).await;
        let client = Client::builder("slow", server.db_address());
        let client = client
            .sub_address(&*step.addresses["pub_address"])
            .connect();
        let client = soon("connecting", client).await.unwrap();
        for _ in 0..2 {
            answers_again(&client, "slow.echo step.mark", "x step").await;
            let addresses = step.kill();
            let mut addresses = same(&addresses);
            addresses.push(follow);
            step = Process::run("step", &addresses).await;
        }
        answers_again(&client, "slow.echo step.mark", "x step").await;
    });
}

#[test]
fn pipeline_reconnects_to_a_killed_and_restarted_server() {
    check(async {
        let pipelined = ("pipelined", "yes");
        let mut server = Process::run_at_fixed_addresses("server", &[pipelined]).await;
        let db_address = server.addresses["db_address"].clone();
        let step = Step
            .bind(ANY)
            .follow(&db_address)
            .to_client(true)
            .spawn()
            .await
            .unwrap();
        let client = Client::builder("slow", &db_address);
        let client = client
            .sub_address(step.address("pub_address").unwrap())
            .connect();
        let client = soon("connecting", client).await.unwrap();
        for where_to in [same, only_db_address] {
            answers_again(&client, "slow.echo step.mark", "x step").await;
            let addresses = server.kill();
            let mut addresses = where_to(&addresses);
            addresses.push(pipelined);
            server = Process::run("server", &addresses).await;
        }
        answers_again(&client, "slow.echo step.mark", "x step").await;
    });
}
