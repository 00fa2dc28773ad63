use super::*;

/// A DEALER, whose output is what the codec under test reads.
fn peer() -> Connection {
    let config = ConnectionConfig::new(Role::Client, SocketType::Dealer);
    Connection::new(config.identity(Bytes::from_static(b"peer")))
}

fn output_of(peer: &mut Connection) -> Bytes {
    let output = peer.poll_transmit();
    peer.advance_transmit(output.len());
    output
}

/// Returns all output, and removes it.
fn written(output: &mut Output) -> Vec<u8> {
    let bytes = output.with_chunks(|chunks| chunks.iter().flat_map(|it| it.to_vec()).collect());
    output.advance(output.len());
    bytes
}

/// Returns the commands of the codec.
fn commands(codec: &mut Codec) -> Vec<u8> {
    let mut output = Output::new();
    codec.take_commands(&mut output);
    written(&mut output)
}

/// Passes the commands of the codec to the peer.
fn answer(codec: &mut Codec, peer: &mut Connection) {
    peer.handle_input(commands(codec).into()).unwrap();
}

/// Passes bytes to the codec, as the task of a connection does.
fn read(codec: &mut Codec, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let (input, count) = match codec.large_payload() {
            Some((payload, missing)) => (payload, missing.min(bytes.len())),
            None => (codec.input(bytes.len()), bytes.len()),
        };
        input.extend_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        if !bytes.is_empty() {
            assert!(matches!(
                codec.step(usize::MAX),
                Ok(Step::Messages | Step::Incomplete)
            ));
        }
    }
}

fn introduced(max_message_bytes: usize) -> (Codec, Connection) {
    let (mut codec, mut peer) = (
        Codec::new(
            Role::Server,
            Kind::Router,
            max_message_bytes,
            Arc::default(),
        ),
        peer(),
    );
    answer(&mut codec, &mut peer);
    read(&mut codec, &output_of(&mut peer));
    let Ok(Step::Introduced(id)) = codec.step(ALLOWANCE) else {
        panic!("the handshake is incomplete");
    };
    assert_eq!(id, "peer");
    answer(&mut codec, &mut peer);
    assert!(peer.is_ready());
    (codec, peer)
}

fn decoded(codec: &mut Codec) -> Vec<Vec<Bytes>> {
    let messages = codec.take_messages();
    messages.map(|message| message.iter().collect()).collect()
}

#[test]
fn messages_are_decoded_wherever_reads_end() {
    let (mut codec, mut peer) = introduced(1 << 20);
    let mut expected = Vec::new();
    for len in [0, 1, 255, 256, LARGE_FRAME, 3 * ALLOWANCE] {
        let parts = [Bytes::from(vec![1; len]), Bytes::from(vec![2; len / 2])];
        peer.send_message(&Message::multipart(parts.clone()))
            .unwrap();
        peer.send_message(&Message::single(parts[0].clone()))
            .unwrap();
        expected.push(parts.to_vec());
        expected.push(vec![parts[0].clone()]);
    }
    let wire = output_of(&mut peer);
    for step in [1, 7, 1000, 16 * 1024, wire.len()] {
        let mut messages = Vec::new();
        for chunk in wire.chunks(step) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let (input, count) = match codec.large_payload() {
                    Some((payload, missing)) => (payload, missing.min(rest.len())),
                    None => (codec.input(rest.len()), rest.len()),
                };
                input.extend_from_slice(&rest[..count]);
                rest = &rest[count..];
                while !matches!(codec.step(usize::MAX), Ok(Step::Incomplete)) {
                    messages.extend(decoded(&mut codec));
                }
            }
            codec.release_buffers();
        }
        assert_eq!(messages, expected, "{step}");
    }
}

#[test]
fn message_waits_for_memory_before_it_is_kept() {
    let (mut codec, mut peer) = introduced(1 << 20);
    let large = Bytes::from(vec![1; 2 * ALLOWANCE]);
    peer.send_message(&Message::single("small")).unwrap();
    peer.send_message(&Message::single(large.clone())).unwrap();
    let wire = output_of(&mut peer);
    let (begin, end) = wire.split_at(100);
    read(&mut codec, begin);
    assert!(matches!(codec.step(ALLOWANCE), Ok(Step::Messages)));
    assert_eq!(decoded(&mut codec), [["small"]]);
    let needed = large.len() + FRAME_COST;
    for _ in 0..2 {
        let step = codec.step(ALLOWANCE).unwrap();
        assert!(matches!(step, Step::NeedsMemory(bytes) if bytes == needed));
        assert!(codec.large_payload().is_none());
    }
    assert!(matches!(codec.step(needed), Ok(Step::Incomplete)));
    read(&mut codec, end);
    assert!(matches!(codec.step(needed), Ok(Step::Messages)));
    assert_eq!(decoded(&mut codec), [[large]]);
}

#[test]
fn frames_of_an_endless_message_need_memory() {
    let (mut codec, _) = introduced(1 << 20);
    let empty_frames = [1, 0].repeat(4096);
    let mut memory = ALLOWANCE;
    let mut frames = 0;
    let end = loop {
        *codec.input(empty_frames.len()) = BytesMut::from(&empty_frames[..]);
        frames += 4096;
        match codec.step(memory) {
            Ok(Step::NeedsMemory(bytes)) => {
                assert!(bytes > memory);
                memory = usize::MAX;
            }
            Ok(Step::Incomplete) => {}
            Ok(step) => panic!("{step:?}"),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, ZmtpError::LargeMessage), "{end}");
    assert!(frames * FRAME_COST <= (2 << 20), "{frames}");
}

#[test]
fn memory_belongs_to_the_message_that_needs_it() {
    let (mut codec, mut peer) = introduced(1 << 20);
    for text in ["first", "second"] {
        let part = Bytes::from(vec![3; ALLOWANCE - 100]);
        peer.send_message(&Message::multipart([part, Bytes::from(text)]))
            .unwrap();
    }
    let wire = output_of(&mut peer);
    codec.input(wire.len()).extend_from_slice(&wire);
    for text in ["first", "second"] {
        assert!(matches!(codec.step(ALLOWANCE), Ok(Step::NeedsMemory(_))));
        assert!(matches!(codec.step(2 * ALLOWANCE), Ok(Step::Messages)));
        let messages = decoded(&mut codec);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0][1], text);
    }
}

#[test]
fn handshake_has_a_limit() {
    let mut codec = Codec::new(Role::Server, Kind::Pull, 1 << 20, Arc::default());
    let mut peer = peer();
    let greeting = output_of(&mut peer);
    codec.input(100).extend_from_slice(&greeting);
    assert!(matches!(codec.step(ALLOWANCE), Ok(Step::Incomplete)));
    codec
        .input(9)
        .extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 16, 1]);
    assert!(matches!(
        codec.step(ALLOWANCE),
        Err(ZmtpError::LargeHandshake)
    ));
}

#[test]
fn rejected_handshake_is_answered() {
    let mut codec = Codec::new(Role::Server, Kind::Pull, 1 << 20, Arc::default());
    let mut peer = peer();
    answer(&mut codec, &mut peer);
    read(&mut codec, &output_of(&mut peer));
    assert!(codec.step(ALLOWANCE).is_err(), "a DEALER at a PULL");
    let output = commands(&mut codec);
    assert!(output.windows(5).any(|text| text == b"ERROR"));
}

#[test]
fn messages_are_encoded() {
    let (_, mut peer) = introduced(1 << 20);
    let mut output = Output::new();
    // The longest is not copied.
    for len in [0, 5, 1000, 10_000] {
        let frames = [Bytes::from(vec![1; len]), Bytes::from(vec![2; len])];
        output.push(frames.iter().take(1).cloned());
        output.push(frames.iter().cloned());
        peer.handle_input(written(&mut output).into()).unwrap();
        for count in [1, 2] {
            let message = peer.poll_message().unwrap();
            assert_eq!(message.iter().collect::<Vec<_>>(), frames[..count]);
        }
    }
}
