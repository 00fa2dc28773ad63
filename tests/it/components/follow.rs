//! Followers: which stream they receive, and when they may start.

use futures_util::StreamExt;
use palm::prelude::*;
use palm::socket::{Publish, Subscribe};

use super::super::setup::{
    ANY, Caller, TempFolder, address, check, connect, connect_through, options, soon, unbound,
};
use super::{First, Hand, Last, Middle, eval};

#[test]
fn pipeline_method_without_a_result_sends_nothing_on() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let middle = Middle.bind(ANY).follow(first.db_address()).to_client(true);
        let middle = middle.spawn().await.unwrap();
        let client = connect_through(&first, &middle).await;
        let job = client.job(
            ["first.echo", "middle.long_only"],
            ["short", "long enough to pass"],
        );
        let answers: Vec<_> = soon("one answer", job.expect_answers(1).collect()).await;
        assert_eq!(*answers[0].as_ref().unwrap(), "long enough to pass");
        assert_eq!(middle.metrics().function("long_only").unwrap().calls, 2);
    });
}

#[test]
fn sink_follows_streams_by_db_address_and_by_pub_address() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let other = First
            .bind(ANY)
            .name("other")
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let sink = Last.bind(ANY).to_client(true).follow(first.db_address());
        let sink = sink.stream(other.address("pub_address").unwrap(), "other");
        let sink = sink.spawn().await.unwrap();
        for (name, server) in [("first", &first), ("other", &other)] {
            let client = connect_through(server, &sink).await;
            let steps = [format!("{name}.mark"), "last.mark".to_owned()];
            let answer = soon("an answer", client.eval(steps, name).into_future())
                .await
                .unwrap();
            assert_eq!(answer, format!("{name} first last"));
        }
    });
}

#[test]
fn follower_receives_only_its_exact_topic() {
    check(async {
        // `first_too` begins with `first`.
        let too = First
            .bind(ANY)
            .name("first_too")
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let publishes = too.address("pub_address").unwrap();
        let middle = Middle
            .bind(ANY)
            .sub_address(publishes)
            .previous("first")
            .to_client(true);
        let middle = middle.spawn().await.unwrap();
        let last = Middle
            .bind(ANY)
            .name("last")
            .sub_address(publishes)
            .previous("first_too");
        let last = last.to_client(true).spawn().await.unwrap();
        let client = connect_through(&too, &last).await;
        assert_eq!(
            eval(&client, ["first_too.mark", "last.mark"], "x").await,
            "x first middle"
        );
        assert_eq!(middle.metrics().part("Sub").unwrap().messages, 0);
    });
}

#[test]
fn follower_and_worker_may_start_before_their_upstream() {
    check(async {
        let folder = TempFolder::new();
        let (first_at, master_at) = (folder.ipc("first"), folder.ipc("master"));
        let middle = Middle
            .bind(ANY)
            .follow(&first_at)
            .to_client(true)
            .spawn()
            .await
            .unwrap();
        let hand = Hand.connect(&master_at).name("hand").spawn().await.unwrap();

        let first = First.bind(&first_at).pipelined(true).spawn().await.unwrap();
        let client = connect_through(&first, &middle).await;
        assert_eq!(
            eval(&client, ["first.mark", "middle.mark"], "x").await,
            "x first middle"
        );

        let master = Master::new("master")
            .bind(&master_at)
            .spawn()
            .await
            .unwrap();
        let client = connect("master", &master).await;
        assert_eq!(eval(&client, ["master.mark"], "x").await, "x hand");
        hand.shutdown().await.unwrap();
    });
}

#[test]
fn follower_started_after_the_first_message_receives_it() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let publishes = unbound();
        let mut caller =
            Caller::at(first.address("pull_address").unwrap(), &publishes, "caller").await;
        caller.send("first.mark middle.mark", "x").await;
        soon("the call", async {
            while first.metrics().function("mark").unwrap().running > 0
                || first.metrics().function("mark").unwrap().calls == 0
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let middle = Middle
            .bind(ANY)
            .follow(first.db_address())
            .pub_address(&*publishes);
        let _middle = middle.to_client(true).spawn().await.unwrap();
        assert_eq!(caller.answer().await, "x first middle");
    });
}

#[test]
fn step_reports_when_its_own_subscription_is_established() {
    check(async {
        let folder = TempFolder::new();
        for is_legacy in [false, true] {
            // An IPC path cannot be bound by another test meanwhile, as a free port could.
            let upstream = folder.ipc(&format!("upstream-{is_legacy}"));
            let middle = Middle.bind(ANY).sub_address(&upstream).previous("first");
            let middle = middle.spawn().await.unwrap();
            let follows = address(middle.address("pub_address").unwrap());
            let mut subscribe = Subscribe::connect(&follows, &options()).await.unwrap();
            subscribe.subscribe("\0palm.ready.x").await.unwrap();
            let mut said = Vec::new();
            soon("the first answer", subscribe.recv_many(&mut said, 1))
                .await
                .unwrap();
            let (_first, _publish) = if is_legacy {
                let publish = Publish::bind(&address(&upstream), &options()).await;
                (None, Some(publish.unwrap()))
            } else {
                let first = First.bind(ANY).pub_address(&upstream).spawn().await;
                (Some(first.unwrap()), None)
            };
            soon("the second answer", subscribe.recv_many(&mut said, 1))
                .await
                .unwrap();
            let bodies: Vec<_> = said.into_iter().map(|said| said.body.unwrap()).collect();
            assert_eq!(bodies, ["heard", ""]);
        }
    });
}
