//! Mistakes as text, as rustc shows those of a program.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Mistake, Mistakes, Severity};

impl Mistakes {
    /// Returns all mistakes as text for a person, and a line that counts them.
    pub fn render(&self, is_coloured: bool) -> String {
        let renderer = match is_coloured {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        let mut text = String::new();
        for mistake in self.list() {
            text.push_str(&renderer.render(&[self.group(mistake)]));
            text.push_str("\n\n");
        }
        text.push_str(&self.summary());
        text
    }

    fn group<'a>(&'a self, mistake: &'a Mistake) -> Group<'a> {
        let level = match mistake.code.severity() {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut primary = AnnotationKind::Primary.span(mistake.span.clone());
        if !mistake.label.is_empty() {
            primary = primary.label(&mistake.label);
        }
        let mut snippet = Snippet::source(self.text())
            .line_start(1)
            .path(&self.file_name)
            .annotation(primary);
        for (span, label) in &mistake.related {
            snippet = snippet.annotation(AnnotationKind::Context.span(span.clone()).label(label));
        }
        let title = level
            .primary_title(&mistake.message)
            .id(mistake.code.name());
        let helps = mistake.help.iter();
        title
            .element(snippet)
            .elements(helps.map(|help| Level::HELP.message(help)))
    }

    fn summary(&self) -> String {
        let count = |severity, name: &str| match self.count(severity) {
            0 => None,
            1 => Some(format!("1 {name}")),
            count => Some(format!("{count} {name}s")),
        };
        let counts = [
            count(Severity::Error, "error"),
            count(Severity::Warning, "warning"),
        ];
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        let worst = self
            .list()
            .iter()
            .min_by_key(|mistake| mistake.code.severity());
        let Some(first) = worst else {
            return String::new();
        };
        format!(
            "{}: {}; `palm explain {}` says more about the first one\n",
            self.file_name,
            counts.join(", "),
            first.code
        )
    }
}
