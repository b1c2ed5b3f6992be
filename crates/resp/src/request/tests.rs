use super::*;

fn parser() -> RequestParser {
    RequestParser::new(RequestLimits::REDIS)
}

/// All requests of `input`, parsed as it arrives in pieces of `size`, and the error that ends it.
fn requests(input: &[u8], size: usize) -> (Vec<Vec<Vec<u8>>>, Option<RequestError>) {
    let (mut parser, mut buffer, mut requests) = (parser(), Vec::new(), Vec::new());
    for piece in input.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&buffer) {
                Ok(Parsed::Request { len, .. }) => {
                    requests.push(parser.arguments(&buffer).iter().map(<[u8]>::to_vec).collect());
                    buffer.drain(..len);
                }
                Ok(Parsed::Nothing { len }) => drop(buffer.drain(..len)),
                Ok(Parsed::Partial { wanted }) => {
                    assert!(wanted > 0);
                    break;
                }
                Ok(part @ Parsed::Part { .. }) => panic!("nobody asked for {part:?}"),
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fn error_of(input: &[u8]) -> RequestError {
    let (_, error) = requests(input, usize::MAX);
    assert_eq!(requests(input, 1).1, error, "a byte at a time");
    error.unwrap_or_else(|| panic!("{} is accepted", input.escape_ascii()))
}

#[test]
fn what_redis_forgives_is_forgiven() {
    // Each measured on redis-server 7.0.15.
    let cases: [(&[u8], &[Words<'_>]); 9] = [
        (b"*1\r\n$4\r\nPING\r\n", &[&[b"PING"]]),
        (b"*0\r\n*-1\r\n*-7\r\n\r\n\nPING\n", &[&[b"PING"]]),
        (b"PING\r\nECHO \"a b\"\n", &[&[b"PING"], &[b"ECHO", b"a b"]]),
        (b"*1\rX$4\rYPINGZZ*1\r\n$4\r\nPING\r\n", &[&[b"PING"], &[b"PING"]]),
        (b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", &[&[b"ECHO", b""]]),
        (b"\rPING\r\n", &[&[b"PING"]]),
        (b"PI\rNG\r\r\n", &[&[b"PI", b"NG"]]),
        (b"$4\r\nPING\r\n", &[&[b"$4"], &[b"PING"]]),
        (b"*1\r\n$4\r\n\r\n\0*\r\n", &[&[b"\r\n\0*"]]),
    ];
    for (input, expected) in cases {
        for size in [1, 3, usize::MAX] {
            let (found, error) = requests(input, size);
            assert_eq!((found, error), (to_vecs(expected), None), "{} by {size}", input.escape_ascii());
        }
    }
}

type Words<'a> = &'a [&'a [u8]];

fn to_vecs(requests: &[Words<'_>]) -> Vec<Vec<Vec<u8>>> {
    requests.iter().map(|request| request.iter().map(|argument| argument.to_vec()).collect()).collect()
}

/// In one piece it is read in one pass, in pieces as it comes.
#[test]
fn a_request_is_the_same_in_one_piece_and_byte_by_byte() {
    let long = format!("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", 999, "k".repeat(999));
    let longer = format!("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", 1000, "k".repeat(1000));
    for input in [
        "*1\r\n$4\r\nPING\r\n",
        "*2\r\n$3\r\nGET\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\n",
        "*2\r\n$3\r\nGET\r\n$2\r\nk\r\n\r\n*1\r\n$4\r\nPING\r\n",
        "*9\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n$1\r\nh\r\n$1\r\ni\r\n",
        "*10\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n$1\r\nh\r\n$1\r\ni\r\n$1\r\nj\r\n",
        "*2\r\n$3\r\nGET\r\n$1\r\nkxyGET a\r\n",
        "*2\r\n$3\r\nGET\r\n$01\r\nk\r\n",
        "*2\r\n$3\r\nGET\r\n$-1\r\n",
        "*2\r\n$3\r\nGET\r\n*1\r\n",
        "*2\rx$3\r\nGET\r\n$1\r\nk\r\n",
        &long,
        &longer,
    ] {
        let input = input.as_bytes();
        assert_eq!(requests(input, input.len()), requests(input, 1), "{}", input.escape_ascii());
    }
}

#[test]
fn what_redis_refuses_is_refused_with_its_words() {
    let long = |start: &str| [start.as_bytes(), &[b'1'; MAX_LINE_BYTES + 1]].concat();
    for input in ["*x\r\n", "*+1\r\n", "*01\r\n", "*1 \r\n", "*2147483648\r\n", "*\r\n", "*-0\r\n"] {
        assert_eq!(error_of(input.as_bytes()), RequestError::InvalidCount, "{input}");
    }
    for input in ["$x", "$-1", "$536870913", "$", "$99999999999999999999", "$00"] {
        assert_eq!(error_of(format!("*1\r\n{input}\r\n").as_bytes()), RequestError::InvalidLength, "{input}");
    }
    assert_eq!(error_of(b"*1\r\nPING\r\n"), RequestError::NoBulk(b'P'));
    assert_eq!(error_of(b"*1\r\n\r\n"), RequestError::NoBulk(b'\r'));
    assert_eq!(error_of(b"\"a\r\n"), RequestError::UnbalancedQuotes);
    assert_eq!(error_of(&long("*")), RequestError::TooBigCount);
    assert_eq!(error_of(&long("*1\r\n$")), RequestError::TooBigLength);
    assert_eq!(error_of(&long("")), RequestError::TooBigInline);
}

#[test]
fn a_nul_hides_the_line_end_behind_it() {
    for start in ["PI\0NG\r\n", "*1\0\r\n", "*1\r\n\0$4\r\n"] {
        let mut input = start.as_bytes().to_vec();
        assert_eq!(requests(&input, usize::MAX), (vec![], None), "{start:?}");
        input.resize(input.len() + MAX_LINE_BYTES, b'\n');
        assert!(requests(&input, usize::MAX).1.is_some());
        assert_eq!(requests(&input, usize::MAX), requests(&input, 1), "{start:?}");
    }
}

#[test]
fn the_line_limit_is_exact_however_the_line_is_cut() {
    let line = |length: usize| [&vec![b'x'; length][..], b"\n"].concat();
    for size in [1, 1000, usize::MAX] {
        assert_eq!(requests(&line(MAX_LINE_BYTES), size).0.len(), 1);
        assert_eq!(requests(&line(MAX_LINE_BYTES + 1), size).1, Some(RequestError::TooBigInline));
    }
}

#[test]
fn a_client_without_authentication_has_little_room() {
    let mut parser = parser();
    parser.set_auth_required(true);
    assert_eq!(parser.parse(b"*11\r\n"), Err(RequestError::UnauthenticatedCount));
    let mut parser = self::parser();
    parser.set_auth_required(true);
    assert_eq!(parser.parse(b"*10\r\n$16384\r\n"), Ok(Parsed::Partial { wanted: 16386 }));
    let mut parser = self::parser();
    parser.set_auth_required(true);
    assert_eq!(parser.parse(b"*10\r\n$16385\r\n"), Err(RequestError::UnauthenticatedLength));
}

#[test]
fn only_a_strict_request_may_be_passed_on_as_it_is() {
    let form = |input: &[u8]| match parser().parse(input) {
        Ok(Parsed::Request { form, .. }) => form,
        other => panic!("{other:?}"),
    };
    assert_eq!(form(b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n"), Form::Strict);
    for loose in ["*1\r.$4\r\nPING\r\n", "*1\r\n$4\r.PING\r\n", "*1\r\n$4\r\nPING..", "PING\r\n"] {
        assert_eq!(form(loose.as_bytes()), Form::Loose, "{loose:?}");
    }
}

#[test]
fn an_announced_length_allocates_nothing() {
    let mut parser = parser();
    assert_eq!(parser.parse(b"*2147483647\r\n$536870912\r\n"), Ok(Parsed::Partial { wanted: 536870914 }));
    assert_eq!(parser.arguments.capacity(), 0);
}

/// A request with values of these lengths, and its key at the end.
fn big_request(lengths: &[usize]) -> Vec<u8> {
    let mut input = format!("*{}\r\n$4\r\nTEST\r\n", lengths.len() + 2).into_bytes();
    for &length in lengths {
        input.extend_from_slice(format!("${length}\r\n").as_bytes());
        input.resize(input.len() + length, b'v');
        input.extend_from_slice(b"\r\n");
    }
    input.extend_from_slice(b"$3\r\nkey\r\n");
    input
}

/// Streams `input`; answers the small arguments with their indices.
fn streamed(input: &[u8], size: usize) -> Result<Vec<(usize, Vec<u8>)>, RequestError> {
    let (mut parser, mut buffer, mut passed, mut small) = (parser(), Vec::new(), Vec::new(), Vec::new());
    for piece in input.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&buffer)? {
                Parsed::Part { len, first, last } => {
                    let arguments = parser.arguments(&buffer);
                    small.extend(arguments.iter().enumerate().map(|(at, text)| (first + at, text.to_vec())));
                    passed.extend(buffer.drain(..len));
                    if last {
                        assert_eq!(passed, input);
                        assert_eq!(
                            parser.parse(b"PING\n"),
                            Ok(Parsed::Request { len: 5, form: Form::Loose })
                        );
                        return Ok(small);
                    }
                    assert!(buffer.len() < STREAMED_BULK_BYTES + 20);
                }
                Parsed::Partial { .. } if parser.open_bulk().is_some() && !parser.streaming => {
                    assert!(parser.stream());
                }
                Parsed::Partial { .. } => break,
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("the request did not end")
}

#[test]
fn a_request_that_is_streamed_is_passed_on_whole_and_shows_its_small_arguments() {
    let input = big_request(&[STREAMED_BULK_BYTES, 5, 100_000, 0]);
    for size in [1, 7, 4096, 50_000] {
        let small = streamed(&input, size).expect("well formed");
        let has = |index, text: &[u8]| small.iter().any(|(at, found)| (*at, &found[..]) == (index, text));
        assert!(has(2, b"vvvvv") && has(4, b"") && has(5, b"key"), "by {size}: {small:?}");
        assert!(small.windows(2).all(|pair| pair[0].0 < pair[1].0), "by {size}: {small:?}");
    }
}

#[test]
fn a_loose_line_end_within_a_streamed_request_ends_it() {
    let input = big_request(&[STREAMED_BULK_BYTES, 5]);
    let announced = b"*4\r\n$4\r\nTEST\r\n$32768\r\n".len();
    for place in (announced..input.len()).filter(|place| input[*place] == b'\n') {
        let mut input = input.clone();
        input[place] = b'.';
        for size in [1, 4096] {
            assert_eq!(streamed(&input, size), Err(RequestError::LooseWhileStreaming), "{place} by {size}");
        }
    }
}

#[test]
fn a_request_that_began_loose_is_not_streamed() {
    let mut parser = parser();
    assert_eq!(parser.parse(b"*2\r.$4\r\nECHO\r\n$40000\r\n"), Ok(Parsed::Partial { wanted: 40002 }));
    assert_eq!(parser.open_bulk(), Some(OpenBulk { index: 1, of: 2, announced: 40000, here: 0 }));
    assert!(!parser.stream());
}
