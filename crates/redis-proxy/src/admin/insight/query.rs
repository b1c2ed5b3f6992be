//! What is asked for behind the `?`.

/// Lines of a list where nothing else is asked for, and at most.
pub(in crate::admin) const COUNT: usize = 20;
const MOST_COUNT: usize = 512;

/// How many lines a query asks for: `count=N`, at most 512.
///
/// # Errors
/// What is expected, for whoever asked for anything else.
pub(in crate::admin) fn count_of(query: Option<&str>) -> Result<usize, &'static str> {
    let mut count = COUNT;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let number = pair.strip_prefix("count=").and_then(|number| number.parse().ok());
        count = number.filter(|number| *number > 0).ok_or("expected count=N, a number from 1 to 512")?;
    }
    Ok(count.min(MOST_COUNT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_lines_is_asked_for_and_nothing_else() {
        for (query, count) in [
            (None, Some(20)),
            (Some(""), Some(20)),
            (Some("count=7"), Some(7)),
            (Some("count=100000"), Some(512)),
            (Some("count=0"), None),
            (Some("count=-1"), None),
            (Some("count="), None),
            (Some("token=x"), None),
            (Some("count=7&token=x"), None),
        ] {
            assert_eq!(count_of(query).ok(), count, "{query:?}");
        }
    }
}
