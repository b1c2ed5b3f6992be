//! A token as it is sent.

use std::fmt;

use hyper::header::HeaderValue;

/// What `Authorization` carries. Shown by no means.
#[derive(Clone)]
pub struct BearerToken(HeaderValue);

impl BearerToken {
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub fn new(token: &str) -> Result<BearerToken, String> {
        let mut field = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "it has a character that no token has".to_owned())?;
        field.set_sensitive(true);
        Ok(BearerToken(field))
    }

    pub(crate) fn field(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_token_is_shown_and_none_ends_its_field() {
        let token = BearerToken::new("planted").unwrap();
        assert_eq!(format!("{token:?}"), "a token");
        assert!(!format!("{:?}", token.field()).contains("planted"));
        let error = BearerToken::new("plan\r\nted: x").unwrap_err();
        assert!(!error.contains("plan"), "{error}");
    }
}
