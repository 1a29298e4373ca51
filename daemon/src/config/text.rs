//! How settings stand in the file: as texts, read by the same words as the flags.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    Rate,
    value::{AccessOf, Advertised, CaOf, Count, Directives, Endpoint, Expected, Listen, ProxyUrl, Size, Span, Zone},
};

/// Reads a setting of the file: a text, or a number where that is how it is written.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = Expected>> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the type says about the empty text is what it expects.
        match T::from_str("") {
            Err(Expected(what)) => f.write_str(what),
            Ok(_) => f.write_str("a text"),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }
}

macro_rules! written_as_text {
    ($($name:ty),*) => { $(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text(PhantomData))
            }
        }
    )* };
}

written_as_text!(Size, Rate, Span, Listen, Endpoint, Advertised, Zone, Count, Directives, AccessOf, CaOf, ProxyUrl);
