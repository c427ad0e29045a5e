//! From text to terms: where fields, signs and values begin and end. Knows no field by name.

use super::FilterError;

/// How a value is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Equal.
    Is,
    /// `>`
    Over,
    /// `>=`
    AtLeast,
    /// `<`
    Under,
    /// `<=`
    AtMost,
}

/// One term, such as `-status:stuck,paused`, with the places of its parts in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) at: usize,
    pub(super) negated: bool,
    pub(super) field: String,
    pub(super) comparison: Comparison,
    pub(super) values: Vec<(usize, String)>,
}

impl Term {
    /// The one value of a term that takes no alternatives.
    pub(super) fn only(&self) -> Result<(usize, &str), FilterError> {
        match self.values.as_slice() {
            [(at, value)] => Ok((*at, value)),
            values => {
                let at = values.get(1).map_or(self.at, |(at, _)| *at);
                let wrong = format!("{} takes one value, not alternatives", self.field);
                Err(FilterError::new(at, wrong))
            }
        }
    }

    /// The comparison of a term of a range, turned round where the term excludes.
    pub(super) fn comparison(&self) -> Result<Comparison, FilterError> {
        if !self.negated {
            return Ok(self.comparison);
        }
        Ok(match self.comparison {
            Comparison::Is => {
                let wrong = format!("{} cannot be excluded by one value; compare it", self.field);
                return Err(FilterError::new(self.at, wrong));
            }
            Comparison::Over => Comparison::AtMost,
            Comparison::AtLeast => Comparison::Under,
            Comparison::Under => Comparison::AtLeast,
            Comparison::AtMost => Comparison::Over,
        })
    }
}

/// Splits a line into its terms.
pub(super) fn terms(text: &str) -> Result<Vec<Term>, FilterError> {
    let mut reader = Reader {
        letters: text.chars().collect(),
        at: 0,
    };
    let mut terms = Vec::new();
    reader.skip_spaces();
    while reader.peek().is_some() {
        terms.push(reader.term()?);
        reader.skip_spaces();
    }
    Ok(terms)
}

struct Reader {
    letters: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Takes letters up to one that ends them.
    fn until(&mut self, ends: impl Fn(char) -> bool) -> String {
        let rest = &self.letters[self.at..];
        let taken: String = rest.iter().take_while(|letter| !ends(**letter)).collect();
        self.at += taken.chars().count();
        taken
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let at = self.at;
        let negated = self.eat('-');
        let field = self.until(|letter| letter == ':' || letter.is_whitespace());
        if field.is_empty() {
            return Err(FilterError::new(
                at,
                "a field is missing, as in status:stuck",
            ));
        }
        if !self.eat(':') {
            let wrong = format!("\"{field}\" needs a field, such as key:{field} or tenant:{field}");
            return Err(FilterError::new(at, wrong));
        }
        let field = field.to_lowercase();
        let comparison = self.comparison();
        let mut values = vec![self.value(&field)?];
        while self.eat(',') {
            values.push(self.value(&field)?);
        }
        if self.peek().is_some_and(|letter| !letter.is_whitespace()) {
            return Err(FilterError::new(
                self.at,
                "a space is missing after the closing quote",
            ));
        }
        if comparison != Comparison::Is
            && let Some((second, _)) = values.get(1)
        {
            let wrong = format!("{field} is compared with one value, not with alternatives");
            return Err(FilterError::new(*second, wrong));
        }
        Ok(Term {
            at,
            negated,
            field,
            comparison,
            values,
        })
    }

    fn comparison(&mut self) -> Comparison {
        if self.eat('>') {
            if self.eat('=') {
                Comparison::AtLeast
            } else {
                Comparison::Over
            }
        } else if self.eat('<') {
            if self.eat('=') {
                Comparison::AtMost
            } else {
                Comparison::Under
            }
        } else {
            Comparison::Is
        }
    }

    fn value(&mut self, field: &str) -> Result<(usize, String), FilterError> {
        let at = self.at;
        if self.eat('"') {
            return Ok((at, self.quoted(at, field)?));
        }
        let value = self.until(|letter| letter == ',' || letter.is_whitespace());
        if value.is_empty() {
            return Err(FilterError::new(at, format!("{field}: needs a value")));
        }
        Ok((at, value))
    }

    /// Reads up to the closing quote; `\"` and `\\` stand for themselves.
    fn quoted(&mut self, at: usize, field: &str) -> Result<String, FilterError> {
        let mut value = String::new();
        loop {
            let letter = self.peek().ok_or_else(|| {
                FilterError::new(at, format!("the quote after {field}: is not closed"))
            })?;
            self.at += 1;
            match (letter, self.peek()) {
                ('"', _) => return Ok(value),
                ('\\', Some(escaped @ ('"' | '\\'))) => {
                    self.at += 1;
                    value.push(escaped);
                }
                _ => value.push(letter),
            }
        }
    }
}
