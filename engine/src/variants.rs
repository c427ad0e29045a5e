//! The names of an enum's variants, as its derived `Deserialize` knows them. Pure.
//!
//! There is no second list of a workflow's states to keep in step with the first: serde hands the
//! names to whoever deserializes.

use serde::de::value::Error;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

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

/// Sketches the payload of each variant of a serde enum: its name alone, or with the names of what it
/// carries, without values.
pub(crate) fn sketches<T: DeserializeOwned>() -> Vec<(&'static str, Value)> {
    let sketch = |name: &&'static str| {
        let mut carries = None;
        let _ = T::deserialize(Sketching {
            name,
            carries: &mut carries,
        });
        let payload = match carries {
            Some(carries) => Value::Object(Map::from_iter([((*name).to_owned(), carries)])),
            None => Value::from(*name),
        };
        (*name, payload)
    };
    variants::<T>().iter().map(sketch).collect()
}

/// Deserializes one variant as far as the names of what it carries.
struct Sketching<'a> {
    name: &'static str,
    carries: &'a mut Option<Value>,
}

impl<'de> Deserializer<'de> for Sketching<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("not an enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'a, 'de> EnumAccess<'de> for Sketching<'a> {
    type Error = Error;
    type Variant = Carried<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Carried<'a>), Error> {
        let name: Result<_, Error> = seed.deserialize(self.name.into_deserializer());
        Ok((name?, Carried(self.carries)))
    }
}

/// What a variant carries.
struct Carried<'a>(&'a mut Option<Value>);

impl Carried<'_> {
    /// Notes the names of fields; it goes no further.
    fn fields<T>(self, names: &[&str]) -> Result<T, Error> {
        let fields = names.iter().map(|name| ((*name).to_owned(), Value::Null));
        self.note(Value::Object(fields.collect()))
    }

    fn note<T>(self, carries: Value) -> Result<T, Error> {
        *self.0 = Some(carries);
        Err(Error::custom("only its shape was asked for"))
    }
}

impl<'de> VariantAccess<'de> for Carried<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, _visitor: V) -> Result<V::Value, Error> {
        self.note(Value::Array(vec![Value::Null; len]))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        self.fields(fields)
    }
}

impl<'de> Deserializer<'de> for Carried<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        self.note(Value::Null)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        self.fields(fields)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        self.fields(&[])
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(serde::Deserialize)]
    enum State {
        Idle,
        #[serde(rename = "at-work")]
        Busy(()),
    }

    #[derive(serde::Deserialize)]
    struct Failure {
        #[expect(dead_code, reason = "its name is all that is asked for")]
        code: String,
        #[expect(dead_code, reason = "its name is all that is asked for")]
        at: Option<u8>,
    }

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "its shape is all that is asked for")]
    enum Told {
        Paid,
        Failed(Failure),
        Moved {
            to: String,
        },
        Both(u8, u8),
        #[serde(rename = "said")]
        Said(String),
    }

    #[test]
    fn what_a_variant_carries_is_sketched_by_the_names_of_its_fields() {
        let sketches: Vec<Value> = sketches::<Told>()
            .into_iter()
            .map(|(_, payload)| payload)
            .collect();
        assert_eq!(
            sketches,
            [
                json!("Paid"),
                json!({"Failed": {"code": null, "at": null}}),
                json!({"Moved": {"to": null}}),
                json!({"Both": [null, null]}),
                json!({"said": null}),
            ]
        );
        assert!(super::sketches::<u8>().is_empty());
    }

    #[test]
    fn the_variants_of_an_enum_are_named_as_payloads_name_them() {
        assert_eq!(variants::<State>(), ["Idle", "at-work"]);
        assert_eq!(variants::<u8>(), [""; 0]);
    }
}
