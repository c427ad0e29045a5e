//! Pages of what the server lists: where this one begins, and how to the others.

/// Where among the pages one is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    passed: Vec<Option<String>>,
    cursor: Option<String>,
    next: Option<String>,
}

impl Pages {
    /// Where the page on show begins.
    pub(crate) fn cursor(&self) -> Option<String> {
        self.cursor.clone()
    }

    /// Notes where the next one begins, if there is one.
    pub(crate) fn followed_by(&mut self, next: Option<String>) {
        self.next = next;
    }

    /// Goes to the next page, if there is one.
    pub(crate) fn turn_on(&mut self) -> bool {
        let Some(next) = self.next.take() else {
            return false;
        };
        self.passed.push(self.cursor.replace(next));
        true
    }

    /// Goes back a page, if this is not the first.
    pub(crate) fn turn_back(&mut self) -> bool {
        let Some(previous) = self.passed.pop() else {
            return false;
        };
        self.next = std::mem::replace(&mut self.cursor, previous);
        true
    }

    /// The page in words; nothing where there is only one.
    pub(crate) fn words(&self) -> String {
        match (self.passed.len() + 1, self.next.is_some()) {
            (1, false) => String::new(),
            (page, true) => format!(", page {page}, more follow"),
            (page, false) => format!(", page {page}, the last"),
        }
    }
}
