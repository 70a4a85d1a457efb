//! Decides by its name alone that a field is secret, whatever its value looks like. Stems and words are few and common: what they miss
//! the look of the value may still give away.

use super::super::text::percent::octets;

/// Any field whose name contains one of these.
const STEMS: [&[u8]; 24] = [
    b"token",
    b"passw",
    b"passp",
    b"passc",
    b"secret",
    b"session",
    b"sessid",
    b"signature",
    b"credential",
    b"mail",
    b"phone",
    b"apikey",
    b"oauth",
    b"username",
    b"firstname",
    b"lastname",
    b"fullname",
    b"surname",
    b"address",
    b"csrf",
    b"xsrf",
    b"creditcard",
    b"cardn",
    b"birth",
];
/// Any field of whose name one of these is a whole word: `api_key` and `userMail`, but not `keyword`.
const WORDS: [&[u8]; 26] = [
    b"key", b"code", b"sig", b"pass", b"pwd", b"sid", b"jwt", b"otp", b"pin", b"card", b"cvc", b"cvv", b"ssn", b"iban", b"addr",
    b"name", b"login", b"user", b"nonce", b"auth", b"tel", b"fax", b"street", b"dob", b"nick", b"pw",
];
/// Of a longer name the end is not looked at.
const LONGEST: usize = 64;

/// Whether a field of this name holds a secret. The name may be percent-encoded.
pub(super) fn is_secret(name: &[u8]) -> bool {
    // The name in small letters; one blank for each run of punctuation, and where a capital follows a small letter.
    let mut spaced = [b' '; 2 * LONGEST];
    let mut joined = [0; LONGEST];
    let (mut end, mut length, mut before) = (0, 0, b' ');
    for byte in octets(name).take(LONGEST).map(super::super::text::percent::Octet::byte) {
        end += usize::from(byte.is_ascii_uppercase() && before.is_ascii_lowercase());
        if byte.is_ascii_alphanumeric() {
            spaced[end] = byte.to_ascii_lowercase();
            joined[length] = byte.to_ascii_lowercase();
            length += 1;
        }
        end += 1;
        before = byte;
    }
    let words = spaced[..end].split(|byte| *byte == b' ');
    has_stem(&joined[..length]) || words.into_iter().any(|word| WORDS.contains(&word))
}

fn has_stem(name: &[u8]) -> bool {
    (0..name.len()).any(|at| STEMS.iter().any(|stem| stem[0] == name[at] && name[at..].starts_with(stem)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for secret in [
            "token",
            "csrfmiddlewaretoken",
            "X-Amz-Signature",
            "api_key",
            "userMail",
            "KEY",
            "user[name]",
            "code",
            "PHPSESSID",
            "%74oken",
            "first_name",
            "billing.address.street",
            "cardNumber",
            "e-mail",
            "api-Key",
        ] {
            assert!(is_secret(secret.as_bytes()), "{secret}");
        }
        for plain in ["keyword", "page", "decode", "zipcodes", "author", "sort", "monkey", "q", "", "filename", "compass"] {
            assert!(!is_secret(plain.as_bytes()), "{plain}");
        }
        assert!(!is_secret("ä-%%%".repeat(100).as_bytes()));
    }
}
