//! Values made up of what a type's `Deserialize` asks for. Pure.
//!
//! What a state does with a signal is a function of both, so whoever wants to tell it beforehand needs
//! a signal. No workflow has to keep one at hand: serde asks for each field by its kind, and gets the
//! plainest there is. Texts are tried in turn, because only the type knows what it reads in one.

use std::cell::RefCell;

use serde::de::value::Error;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// What a text may be: an id, an instant, a day, a currency, an interval, a zone, a number.
const TEXTS: [&str; 7] = [
    "00000000-0000-7000-8000-000000000000",
    "2027-01-01T00:00:00Z",
    "2027-01-01",
    "EUR",
    "month",
    "UTC",
    "1",
];
/// So many texts of so many fields are tried before it is given up.
const MOST: usize = 100;

/// Makes up a value of one variant of a serde enum; `None` where its fields ask for more than the
/// plainest.
pub(crate) fn made_up<T: DeserializeOwned>(variant: &'static str) -> Option<T> {
    let texts = RefCell::new(Texts::default());
    for _ in 0..MOST {
        let made = T::deserialize(MadeUp {
            variant: Some(variant),
            texts: &texts,
        });
        match made {
            Ok(made) => return Some(made),
            // Whatever reads a text refuses it at once, so the last one is what does not fit.
            Err(_) if texts.borrow_mut().next() => {}
            Err(_) => return None,
        }
    }
    None
}

/// Which text each field gets, in the order in which they are asked for.
#[derive(Default)]
struct Texts {
    chosen: Vec<usize>,
    used: usize,
}

impl Texts {
    fn give(&mut self) -> &'static str {
        if self.used == self.chosen.len() {
            self.chosen.push(0);
        }
        let text = self.chosen.get(self.used).and_then(|at| TEXTS.get(*at));
        self.used += 1;
        text.copied().unwrap_or_default()
    }

    /// Begins anew with another text for the last field that asked for one.
    fn next(&mut self) -> bool {
        self.chosen.truncate(self.used);
        self.used = 0;
        let Some(last) = self.chosen.last_mut() else {
            return false;
        };
        *last += 1;
        *last < TEXTS.len()
    }
}

#[derive(Clone, Copy)]
struct MadeUp<'a> {
    /// The variant of the enum that is asked for; of those inside it, the first.
    variant: Option<&'static str>,
    texts: &'a RefCell<Texts>,
}

impl MadeUp<'_> {
    fn inside(self) -> Self {
        Self {
            variant: None,
            ..self
        }
    }
}

impl<'de> Deserializer<'de> for MadeUp<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(1.0)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(1.0)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.texts.borrow_mut().give();
        visitor.visit_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Elements(self.inside(), 0))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Elements(self.inside(), len))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields(self.inside(), &[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields(self.inside(), fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let wanted = self.variant.or(variants.first().copied());
        let wanted = wanted.ok_or_else(|| Error::custom("it has no variant"))?;
        visitor.visit_enum(Variant(self.inside(), wanted))
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

/// So many elements.
struct Elements<'a>(MadeUp<'a>, usize);

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.1.checked_sub(1) else {
            return Ok(None);
        };
        self.1 = left;
        seed.deserialize(self.0).map(Some)
    }
}

/// Fields by their names.
struct Fields<'a>(MadeUp<'a>, &'static [&'static str]);

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((first, rest)) = self.1.split_first() else {
            return Ok(None);
        };
        self.1 = rest;
        seed.deserialize((*first).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.0)
    }
}

/// A variant by its name.
struct Variant<'a>(MadeUp<'a>, &'static str);

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Carries<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Carries<'a>), Error> {
        let name: Result<_, Error> = seed.deserialize(self.1.into_deserializer());
        Ok((name?, Carries(self.0)))
    }
}

/// What a variant carries.
struct Carries<'a>(MadeUp<'a>);

impl<'de> VariantAccess<'de> for Carries<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Elements(self.0, len))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields(self.0, fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, NaiveDate, Utc};
    use serde::Deserialize;
    use serde_json::Value;
    use uuid::Uuid;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum When {
        Now,
        At(DateTime<Utc>),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Failure {
        id: Uuid,
        at: DateTime<Utc>,
        day: NaiveDate,
        code: String,
        tries: u8,
        note: Option<String>,
        all: Vec<u8>,
        pair: (bool, i64),
        any: Value,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    enum Told {
        Paid,
        Failed(Failure),
        Moved { when: When },
        Both(u8, When),
        Never(Narrow),
    }

    /// Reads nothing that is made up.
    #[derive(Debug, PartialEq)]
    struct Narrow;

    impl<'de> Deserialize<'de> for Narrow {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            match String::deserialize(from)?.as_str() {
                "narrow" => Ok(Self),
                _ => Err(D::Error::custom("not narrow")),
            }
        }
    }

    #[test]
    fn a_variant_is_made_up_with_all_that_it_carries() {
        assert_eq!(made_up("Paid"), Some(Told::Paid));
        let Some(Told::Failed(failure)) = made_up("Failed") else {
            panic!("it carries nothing that cannot be made up");
        };
        assert_eq!(failure.at.to_rfc3339(), "2027-01-01T00:00:00+00:00");
        assert_eq!((failure.tries, failure.pair), (1, (false, 1)));
        assert_eq!((failure.note, failure.all), (None, Vec::new()));
        let when = When::Now;
        assert_eq!(made_up("Moved"), Some(Told::Moved { when }));
        assert_eq!(made_up("Both"), Some(Told::Both(1, When::Now)));
        assert_eq!(made_up::<Told>("Never"), None);
        assert_eq!(made_up::<Told>("Unheard"), None);
        assert_eq!(
            made_up::<u8>("Paid"),
            Some(1),
            "what is no enum is made up, too"
        );
    }
}
