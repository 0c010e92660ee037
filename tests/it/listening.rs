//! Channels on which the client says nothing but what comes with the request.

use syncfiles::ssh::{CarrierError, Connection, Flow};
use tokio::task::JoinSet;

use crate::carrier::{in_time, memory_pair, pattern, read_all, tcp_pair};

/// Serves every channel with as many bytes as its first four say, and the end mark.
async fn serve(server: Connection) {
    let mut serving = JoinSet::new();
    while let Some(mut channel) = server.accept().await {
        serving.spawn(async move {
            let Ok(Some(first)) = channel.reader.next().await else { return };
            let length = u32::from_be_bytes(first[..4].try_into().unwrap());
            // A client that has heard enough closes the channel before.
            if channel.writer.send(pattern(length as usize, length.into())).await.is_ok() {
                let _ = channel.writer.finish().await;
            }
        });
    }
}

/// Listens to `lengths`, one channel after the other; of every fifth only to the beginning.
async fn listen(client: Connection, lengths: Vec<u32>) {
    for (at, length) in lengths.into_iter().enumerate() {
        let first = length.to_be_bytes();
        let asked = if at == 0 { client.ask(&first) } else { client.ask_to_listen(&first) };
        let mut channel = asked.unwrap().wait().await.unwrap();
        if at % 5 == 4 {
            assert!(!channel.reader.next().await.unwrap().unwrap().is_empty());
        } else {
            assert!(read_all(&mut channel).await.unwrap() == pattern(length as usize, length.into()));
        }
    }
}

async fn listen_to_many(client: &Connection, server: Connection) {
    let serving = tokio::spawn(serve(server));
    let mut listening = JoinSet::new();
    for own in 0..8 {
        listening
            .spawn(listen(client.clone(), (0..60).map(|at| 1 + (at * 997 + own * 131) % 20_000).collect()));
    }
    while let Some(done) = listening.join_next().await {
        done.unwrap();
    }
    client.close();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_after_the_other_bring_all_through_the_smallest_windows_even_where_some_are_given_up() {
    in_time(async {
        let (client, server) =
            memory_pair(&Flow { window: 4096, channel_window: 4096, ..Flow::default() }).await;
        listen_to_many(&client, server).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_given_up_unread_gives_back_its_credit_though_nothing_else_is_asked_for() {
    in_time(async {
        let (client, server) =
            memory_pair(&Flow { window: 4096, channel_window: 4096, ..Flow::default() }).await;
        tokio::spawn(serve(server));
        let first = 20_000u32.to_be_bytes();
        let asked = [
            client.ask(&first).unwrap(),
            client.ask_to_listen(&first).unwrap(),
            client.ask_to_listen(&first).unwrap(),
        ];
        let mut open = Vec::new();
        for opening in asked {
            open.push(opening.wait().await.unwrap());
        }
        // All that the server may send unacknowledged is under way.
        while client.unconsumed() < 4096 {
            tokio::task::yield_now().await;
        }
        let mut last = open.remove(0);
        drop(open);
        assert!(read_all(&mut last).await.unwrap() == pattern(20_000, 20_000));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_go_on_on_the_next_ssh_connection_while_keys_are_exchanged_anew() {
    in_time(async {
        let flow = Flow { rekey_bytes: 1 << 20, recycle_channels: Some(50), ..Flow::default() };
        let (client, server, site) = tcp_pair(&flow).await;
        listen_to_many(&client, server).await;
        site.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_open_is_refused_and_can_be_asked_for_again() {
    in_time(async {
        let (client, server) = memory_pair(&Flow { channels: 4, ..Flow::default() }).await;
        tokio::spawn(serve(server));
        let first = 9u32.to_be_bytes();
        let mut asked: Vec<_> = (0..20).map(|_| client.ask_to_listen(&first).unwrap()).collect();
        let (mut open, mut refused) = (Vec::new(), 0);
        for opening in asked.drain(..) {
            match opening.wait().await {
                Ok(channel) => open.push(channel),
                Err(CarrierError::Refused(why)) => {
                    assert_eq!(&*why, "resource shortage");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(refused >= 1, "the server opened them all");
        drop(open);
        while let Err(CarrierError::Refused(_)) = client.ask_to_listen(&first).unwrap().wait().await {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_one_once_the_connection_has_ended() {
    in_time(async {
        for _ in 0..20 {
            let (client, server) = memory_pair(&Flow::default()).await;
            let first = 9u32.to_be_bytes();
            let asked: Vec<_> = (0..50).map(|_| client.ask_to_listen(&first)).collect();
            server.close();
            for opening in asked {
                let _ = opening.unwrap().wait().await;
            }
            client.ended().await;
            if let Ok(opening) = client.ask_to_listen(&first) {
                assert!(opening.wait().await.is_err());
            }
        }
    })
    .await;
}
