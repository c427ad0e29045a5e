//! The names of an enum's variants, as its derived `Deserialize` knows them. Pure.
//!
//! There is no second list of a workflow's states to keep in step with the first: serde hands the
//! names to whoever deserializes.

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// Lists the variants of a serde enum by the names that payloads bear; empty for what is none.
#[must_use]
pub fn variants<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // It never succeeds: the names are all that is wanted.
    let _ = T::deserialize(Asking { found: &mut found });
    found
}

struct Asking<'a> {
    found: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Asking<'_> {
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
        *self.found = variants;
        Err(Error::custom("only its names were asked for"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    enum State {
        Idle,
        #[serde(rename = "at-work")]
        Busy(()),
    }

    #[test]
    fn the_variants_of_an_enum_are_named_as_payloads_name_them() {
        assert_eq!(variants::<State>(), ["Idle", "at-work"]);
        assert_eq!(variants::<u8>(), [""; 0]);
    }
}
