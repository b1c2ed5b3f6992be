//! A response, checked as it is read.

/// A response of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200, 404, ...
    pub status: u16,
    /// The text after the status.
    pub reason: String,
    /// Names and values in the order they came.
    pub headers: Vec<(String, String)>,
    /// Exactly Content-Length bytes.
    pub body: Vec<u8>,
}

#[allow(unused_variables)]
impl Response {
    /// The value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        unimplemented!()
    }
    /// The body as text.
    pub fn text(&self) -> &str {
        unimplemented!()
    }
}
