//! Which rows of a long list are on the screen.

use std::time::Duration;

use crossterm::event::KeyCode;
use palm::inspect::Answer;
use palm::report::Report;

use super::{Screen, cluster};

#[test]
fn list_scrolls_with_the_selection() {
    let mut screen = Screen::new(80, 12);
    let addresses: Vec<_> = (10..60)
        .map(|number| format!("tcp://step:{number}"))
        .collect();
    let answers = addresses.iter().zip(10..).map(|(address, number)| {
        let mut report = Report::new(number, &format!("step {number}"));
        report.db_address.clone_from(address);
        (&**address, Answer::Report(Box::new(report)))
    });
    let now = screen.begin + Duration::from_secs(3);
    screen.app.update(cluster(answers.collect()), now);
    let mut shown = |keys: &[KeyCode]| {
        screen.press(keys);
        let text = screen.text();
        let steps = text
            .lines()
            .filter_map(|line| line.strip_prefix("step ")?.get(..2)?.parse().ok());
        steps.collect::<Vec<u32>>()
    };
    // The two components that are gone have two lines each.
    assert_eq!(shown(&[KeyCode::Home]), [10, 11, 12]);
    assert_eq!(shown(&[KeyCode::PageDown]), (12..19).collect::<Vec<_>>());
    assert_eq!(shown(&[KeyCode::Up]), (12..19).collect::<Vec<_>>());
    assert_eq!(shown(&[KeyCode::End]), (53..60).collect::<Vec<_>>());
    assert_eq!(shown(&[KeyCode::Up; 6]), (53..60).collect::<Vec<_>>());
    assert_eq!(shown(&[KeyCode::Up]), (52..59).collect::<Vec<_>>());
    assert_eq!(shown(&[KeyCode::Home]), [10, 11, 12]);
}
