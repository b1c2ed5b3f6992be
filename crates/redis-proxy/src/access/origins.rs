//! The origins whose pages may read answers (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).

/// Which these are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origins {
    /// None but the program's own.
    #[default]
    Own,
    /// All; never with credentials of the browser.
    Any,
    /// These, each as browsers write it.
    Listed(Box<[Box<str>]>),
}

impl Origins {
    /// `none`, `*`, or origins with commas between them: `https://a.example,http://b.example:8080`. None for any other text.
    pub(crate) fn parse(text: &str) -> Option<Origins> {
        match text {
            "none" => Some(Origins::Own),
            "*" => Some(Origins::Any),
            _ => {
                let origins = text.split(',').map(|origin| origin_as_written(origin.trim()));
                origins.collect::<Option<Box<[_]>>>().map(Origins::Listed)
            }
        }
    }

    /// Of those that are listed the number of this one, as it stands in `Origin`.
    pub(crate) fn number_of(&self, origin: &[u8]) -> Option<usize> {
        match self {
            Origins::Listed(listed) => listed.iter().position(|one| one.as_bytes() == origin),
            Origins::Own | Origins::Any => None,
        }
    }

    /// Those that are listed.
    pub(crate) fn listed(&self) -> &[Box<str>] {
        match self {
            Origins::Listed(listed) => listed,
            Origins::Own | Origins::Any => &[],
        }
    }
}

/// An origin as a browser writes it (RFC 6454, section 6.2): in lower case, without a port that is its scheme's, without a path.
fn origin_as_written(text: &str) -> Option<Box<str>> {
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_nobody = url.username().is_empty() && url.password().is_none();
    // What is written with a slash at its end is meant as a page.
    (is_bare && is_nobody && !text.ends_with('/')).then(|| url.origin().ascii_serialization().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        let listed =
            Origins::parse("https://A.example, http://b.example:8080,https://c.example:443").unwrap();
        for (origin, number) in [
            ("https://a.example", Some(0)),
            ("http://b.example:8080", Some(1)),
            ("https://c.example", Some(2)),
            ("http://a.example", None),
            ("https://a.example:8443", None),
            ("https://a.example.evil.example", None),
            ("https://evil.example", None),
            ("null", None),
            ("", None),
        ] {
            assert_eq!(listed.number_of(origin.as_bytes()), number, "{origin}");
        }
        assert_eq!(Origins::Own.number_of(b"https://a.example"), None);
    }

    #[test]
    fn what_is_no_origin_is_not_accepted() {
        for text in [
            "",
            "a.example",
            "https://a.example/",
            "https://a.example/x",
            "https://u@a.example",
            "ftp://a",
            "null",
            "https://a.example,*",
        ] {
            assert_eq!(Origins::parse(text), None, "{text}");
        }
    }
}
