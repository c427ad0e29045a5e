//! The names of a serde enum's variants, asked of its own `Deserialize`.
//!
//! A derived enum tells its variants to the deserializer before it reads a byte. Asking it there
//! keeps the list true by itself: a workflow need not repeat its states' names in a second place.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// Lists the variants of `T` as they are written in payloads, in the order of the enum; empty when
/// `T` is not an enum in serde's default (externally tagged) form.
pub(crate) fn variants<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // The answer is always an error: nothing is there to be read.
    T::deserialize(Listener(&mut names)).err();
    names
}

struct Listener<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("not an enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = variants;
        Err(Error::custom("the variants are told"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::variants;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only the names are asked for")]
    enum Door {
        Open,
        #[serde(rename = "Locked")]
        Shut {
            key: String,
        },
        Ajar(u8),
    }

    #[test]
    fn an_enum_tells_its_variants_as_they_are_written() {
        assert_eq!(variants::<Door>(), ["Open", "Locked", "Ajar"]);
    }

    #[test]
    fn what_is_no_enum_has_none() {
        assert!(variants::<String>().is_empty());
        assert!(variants::<Vec<Door>>().is_empty());
    }
}
