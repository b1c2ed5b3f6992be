//! Arguments of a command as they are kept: few, short, and none that is a secret.

/// Arguments of a command, at most; of more the last one kept says how many there were (Redis, slowlog.c).
const MOST_ARGUMENTS: usize = 32;
/// Bytes of one argument, at most.
const MOST_BYTES: usize = 128;
/// In place of what is nobody's business (Redis, networking.c, `redactClientCommandArgument`).
const REDACTED: &[u8] = b"(redacted)";

/// The arguments of a command, of which there are `count`, as they are kept: the first of them, each cut.
pub(crate) fn cut_arguments<'a>(arguments: impl Iterator<Item = &'a [u8]>, count: usize) -> Vec<Box<[u8]>> {
    let shown = if count > MOST_ARGUMENTS { MOST_ARGUMENTS - 1 } else { count };
    let mut kept: Vec<Box<[u8]>> = arguments.take(shown).map(cut).collect();
    if shown < count {
        kept.push(format!("... ({} more arguments)", count - shown).into_bytes().into());
    }
    kept
}

fn cut(argument: &[u8]) -> Box<[u8]> {
    match argument.split_at_checked(MOST_BYTES) {
        Some((kept, rest)) if !rest.is_empty() => {
            [kept, format!("... ({} more bytes)", rest.len()).as_bytes()].concat().into()
        }
        _ => argument.into(),
    }
}

/// What anybody may be shown of a command's arguments: none of one that tells who somebody is, and no secret of any other. Of a
/// command that nobody knows the name alone, since it may be any under another name.
pub(crate) fn shown_arguments(mut arguments: Vec<Box<[u8]>>, is_known: bool) -> Option<Vec<Box<[u8]>>> {
    let is = |at: usize, word: &str| {
        arguments.get(at).is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
    };
    if is(0, "AUTH") || is(0, "HELLO") {
        return None;
    }
    let (first_secret, step) = match () {
        () if !is_known => (1, 1),
        // Passwords are among the rules, and files of them and their passphrases among the values.
        () if is(0, "ACL") && is(1, "SETUSER") => (3, 1),
        () if is(0, "CONFIG") && is(1, "SET") => (3, 2),
        () if is(0, "MIGRATE") => {
            let behind = (6..arguments.len()).find(|at| is(*at, "AUTH") || is(*at, "AUTH2"));
            let first = behind.map_or(usize::MAX, |at| at + 1);
            (first, 1)
        }
        () if is(0, "SENTINEL") && (is(1, "SET") || is(1, "CONFIG")) => (2, 1),
        () => (usize::MAX, 1),
    };
    let secrets = arguments.iter_mut().skip(first_secret).step_by(step);
    secrets.for_each(|argument| *argument = REDACTED.into());
    Some(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Vec<Box<[u8]>> {
        text.split(' ').map(|word| word.as_bytes().into()).collect()
    }

    fn shown(text: &str, is_known: bool) -> Option<String> {
        let shown = shown_arguments(kept(text), is_known)?;
        Some(shown.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn few_arguments_are_kept_and_each_cut() {
        let cut = |arguments: &[&[u8]]| cut_arguments(arguments.iter().copied(), arguments.len());
        assert_eq!(cut(&[b"GET", b"k"]), kept("GET k"));
        let long = vec![b'x'; 300];
        let set = cut(&[b"SET", b"", &long]);
        assert!(set[1].is_empty() && set[2].starts_with(&long[..128]));
        assert!(set[2].ends_with(b"... (172 more bytes)"));
        assert_eq!(&*cut(&[&long[..128]])[0], &long[..128]);
        let few = cut(&[&b"a"[..]; 40]);
        assert_eq!((few.len(), &few[31][..]), (32, &b"... (9 more arguments)"[..]));
        assert_eq!(cut(&[&b"a"[..]; 32]).len(), 32);
    }

    #[test]
    fn no_secret_is_shown() {
        for (command, expected) in [
            ("AUTH u planted", None),
            ("hello 3 AUTH u planted", None),
            (
                "CONFIG SET requirepass planted save planted",
                Some("CONFIG SET requirepass (redacted) save (redacted)"),
            ),
            ("acl setuser u on >planted ~*", Some("acl setuser u (redacted) (redacted) (redacted)")),
            (
                "MIGRATE h 1 k 0 9 COPY AUTH2 u planted",
                Some("MIGRATE h 1 k 0 9 COPY AUTH2 (redacted) (redacted)"),
            ),
            ("MIGRATE h 1 auth 0 9", Some("MIGRATE h 1 auth 0 9")),
            ("SET k v", Some("SET k v")),
        ] {
            assert_eq!(shown(command, true).as_deref(), expected, "{command}");
        }
        // `rename-command AUTH letmein`.
        assert_eq!(shown("letmein planted", false).as_deref(), Some("letmein (redacted)"));
    }
}
