//! What a client's command means for that client, apart from the socket it came on.
//!
//! A front turns bytes into requests and answers into bytes; what a request is for, where it goes and what its answer changes
//! is decided here. This layer names `readthrough` and `lanes`, and neither a socket nor HTTP nor a front.

#[expect(dead_code, reason = "the fronts are put on it one after the other")]
pub(crate) mod replies;
