//! `.messages(n)` of a component: it ends after so many messages.

use futures_util::StreamExt;
use palm::prelude::*;

use super::super::setup::{ANY, TempFolder, check, connect_through, soon, unbound};
use super::{First, Hand, Last, Middle, eval};

#[test]
fn start_returns_after_the_message_limit() {
    check(async {
        let folder = TempFolder::new();

        let at = folder.ipc("server");
        let server = tokio::spawn(First.bind(&at).messages(3).start());
        let client = soon("connecting", Client::connect("first", &at))
            .await
            .unwrap();
        for _ in 0..3 {
            assert_eq!(eval(&client, ["first.mark"], "x").await, "x first");
        }
        soon("the server's end", server).await.unwrap().unwrap();

        let at = folder.ipc("master");
        let master = tokio::spawn(Master::new("master").bind(&at).messages(5).start());
        let worker = tokio::spawn(Hand.connect(&at).name("hand").messages(5).start());
        let client = soon("connecting", Client::connect("master", &at))
            .await
            .unwrap();
        let job = client.job(Hand::MARK, vec!["x"; 5]).expect_answers(5);
        let answers: Vec<_> = soon("five answers", job.collect()).await;
        assert!(
            answers
                .iter()
                .all(|answer| *answer.as_ref().unwrap() == "x hand")
        );
        soon("the master's end", master).await.unwrap().unwrap();
        soon("the worker's end", worker).await.unwrap().unwrap();
    });
}

#[test]
fn message_limit_ends_followers() {
    check(async {
        for (name, mark) in [("middle", "middle"), ("hub", "hand"), ("last", "last")] {
            let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
            let at = first.db_address();
            let component = match name {
                "middle" => {
                    Middle
                        .bind(ANY)
                        .follow(at)
                        .to_client(true)
                        .messages(4)
                        .spawn()
                        .await
                }
                "hub" => {
                    Hub::new("hub")
                        .bind(ANY)
                        .follow(at)
                        .messages(4)
                        .spawn()
                        .await
                }
                _ => {
                    Last.bind(ANY)
                        .follow(at)
                        .to_client(true)
                        .messages(4)
                        .spawn()
                        .await
                }
            };
            let component = component.unwrap();
            let hand = Hand.connect(component.db_address()).name("hand");
            let _hand = hand.spawn().await.unwrap();
            let client = connect_through(&first, &component).await;
            let steps = ["first.mark".to_owned(), format!("{name}.mark")];
            let job = client.job(steps, vec!["x"; 4]).expect_answers(4);
            let answers: Vec<_> = soon("four answers", job.collect()).await;
            for answer in answers {
                assert_eq!(answer.unwrap(), format!("x first {mark}"));
            }
            let end = format!("the end of `{name}`");
            soon(&end, component.join()).await.unwrap();
        }
    });
}

#[test]
fn message_limit_of_zero_ends_a_component_immediately() {
    check(async {
        soon("the server's end", First.bind(ANY).messages(0).start())
            .await
            .unwrap();
        let worker = Hand.connect(unbound()).push_address(unbound()).messages(0);
        soon("the worker's end", worker.start()).await.unwrap();
    });
}
