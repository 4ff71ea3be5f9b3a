//! Quoting of bare integer keys in one pass, without building a tree.

/// Puts quotes around bare integer keys, as strict JSON requires.
pub(super) fn quote(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 8);
    let mut rest = content.iter().copied().peekable();
    let mut containers = Vec::new();
    let mut key_next = false;
    while let Some(byte) = rest.next() {
        if key_next && (byte.is_ascii_digit() || byte == b'-') {
            out.extend([b'"', byte]);
            while let Some(digit) = rest.next_if(u8::is_ascii_digit) {
                out.push(digit);
            }
            out.push(b'"');
            key_next = false;
            continue;
        }
        out.push(byte);
        match byte {
            b'"' => {
                copy_string(&mut rest, &mut out);
                key_next = false;
            }
            b'{' | b'[' => {
                containers.push(byte);
                key_next = byte == b'{';
            }
            b'}' | b']' => {
                containers.pop();
                key_next = false;
            }
            b',' => key_next = containers.last() == Some(&b'{'),
            _ => key_next &= byte.is_ascii_whitespace(),
        }
    }
    out
}

fn copy_string(rest: &mut impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    let mut escaped = false;
    for byte in rest {
        out.push(byte);
        match byte {
            b'\\' => escaped = !escaped,
            b'"' if !escaped => return,
            _ => escaped = false,
        }
    }
}
