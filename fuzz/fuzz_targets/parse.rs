//! Parses messages, lists of steps and addresses from any bytes: nothing panics, and encoding a parsed value returns the
//! same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palm::Message;
use palm::socket::Address;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::decode(bytes.to_vec().into()) {
        assert_eq!(message.encode(), bytes);
        let _ = message.step();
        let mut changed = message.clone();
        changed.set_stage(message.stage().wrapping_add(1));
        changed.set_stage(message.stage());
        let again = Message::decode(changed.encode()).expect("an encoded message is readable");
        assert_eq!(again, message);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(steps) = palm::Steps::parse(text) {
            let again = palm::Steps::parse(&steps.to_string()).expect("displayed steps are readable");
            assert_eq!(again, steps);
        }
        if let Ok(address) = text.parse::<Address>() {
            let again: Address = address.to_string().parse().expect("a displayed address is readable");
            assert_eq!(again, address);
        }
    }
});
