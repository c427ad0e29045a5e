//! Pages of what the server lists: where this one begins, and how to the others.

/// What is listed page by page.
pub(crate) trait Paged {
    /// Where among its pages it is.
    fn pages(&self) -> &Pages;

    /// The same, to turn them.
    fn pages_mut(&mut self) -> &mut Pages;

    /// Forgets what is listed, for it is of another page.
    fn forget(&mut self);

    /// Goes on or back by a page, if there is one.
    fn turn(&mut self, on: bool) -> bool {
        let pages = self.pages_mut();
        let turned = if on {
            pages.turn_on()
        } else {
            pages.turn_back()
        };
        if turned {
            self.forget();
        }
        turned
    }
}

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

    /// Whether there is a page further on, or further back.
    pub(crate) fn has(&self, on: bool) -> bool {
        if on {
            self.next.is_some()
        } else {
            !self.passed.is_empty()
        }
    }

    fn turn_on(&mut self) -> bool {
        let Some(next) = self.next.take() else {
            return false;
        };
        self.passed.push(self.cursor.replace(next));
        true
    }

    fn turn_back(&mut self) -> bool {
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
