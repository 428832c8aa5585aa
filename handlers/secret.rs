//! A password, token or key from a file or the environment: never shown, never written anywhere.

use std::fmt;

/// A secret. Its `Debug` shows that there is one, and nothing of it.
#[derive(Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
pub struct Secret(String);

impl Secret {
    /// Wraps what was read from a file or the environment.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for the far end alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
