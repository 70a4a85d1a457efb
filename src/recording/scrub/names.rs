//! Decides by its name that a field is secret, whatever its value looks like, or that a value which looks drawn by lot is. Stems and words
//! are few and common: what they miss the look of the value may still give away.

use super::super::text::percent::{Octet, octets};
use super::detect::is_drawn;

/// Any field whose name contains one of these.
const STEMS: [&[u8]; 31] = [
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
    b"bearer",
    b"samlresponse",
    b"relaystate",
    // A password in German, Spanish (beyond ASCII nothing counts: contraseña), French and Dutch.
    b"kennwort",
    b"contrase",
    b"motdepasse",
    b"wachtwoord",
];
/// Any field of whose name one of these is a whole word: `api_key` and `userMail`, but not `keyword`.
const WORDS: [&[u8]; 31] = [
    b"key",
    b"code",
    b"sig",
    b"pass",
    b"pwd",
    b"sid",
    b"jwt",
    b"otp",
    b"pin",
    b"card",
    b"cvc",
    b"cvv",
    b"ssn",
    b"iban",
    b"addr",
    b"name",
    b"login",
    b"user",
    b"nonce",
    b"auth",
    b"tel",
    b"fax",
    b"street",
    b"dob",
    b"nick",
    b"pw",
    b"tok",
    b"hmac",
    b"assertion",
    b"mdp",
    b"senha",
];
/// Words that are as common for what is measured: `state=open`, `ticket=4711`.
const SUSPECTS: [&[u8]; 4] = [b"state", b"access", b"refresh", b"ticket"];
/// Of a longer name the end is not looked at.
const LONGEST: usize = 64;

/// What the name of a field tells of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is secret.
    Secret,
    /// It is, if it looks drawn by lot.
    Suspect,
    Nothing,
}

impl Told {
    /// Whether `value`, perhaps percent-encoded, is secret.
    pub(super) fn is_secret(self, value: &[u8]) -> bool {
        match self {
            Self::Secret => true,
            Self::Suspect => is_drawn(&octets(value).map(Octet::byte).collect::<Vec<_>>()),
            Self::Nothing => false,
        }
    }
}

/// What a name tells. It may be percent-encoded.
pub(super) fn told(name: &[u8]) -> Told {
    // The name in small letters; one blank for each run of punctuation, and where a capital follows a small letter.
    let mut spaced = [b' '; 2 * LONGEST];
    let mut joined = [0; LONGEST];
    let (mut end, mut length, mut before) = (0, 0, b' ');
    for byte in octets(name).take(LONGEST).map(Octet::byte) {
        end += usize::from(byte.is_ascii_uppercase() && before.is_ascii_lowercase());
        if byte.is_ascii_alphanumeric() {
            spaced[end] = byte.to_ascii_lowercase();
            joined[length] = byte.to_ascii_lowercase();
            length += 1;
        }
        end += 1;
        before = byte;
    }
    let has_word = |words: &[&[u8]]| spaced[..end].split(|byte| *byte == b' ').any(|word| words.contains(&word));
    if has_stem(&joined[..length]) || has_word(&WORDS) {
        Told::Secret
    } else if has_word(&SUSPECTS) {
        Told::Suspect
    } else {
        Told::Nothing
    }
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
            "bearer",
            "hmac",
            "client_assertion",
            "SAMLResponse",
            "RelayState",
            "kennwort",
            "contraseña",
            "contrase%C3%B1a",
            "mot_de_passe",
            "tok",
        ] {
            assert_eq!(told(secret.as_bytes()), Told::Secret, "{secret}");
        }
        for plain in
            ["keyword", "page", "decode", "zipcodes", "author", "sort", "monkey", "q", "", "filename", "compass", "estate"]
        {
            assert_eq!(told(plain.as_bytes()), Told::Nothing, "{plain}");
        }
        assert_eq!(told("ä-%%%".repeat(100).as_bytes()), Told::Nothing);
        for suspect in ["state", "oidc_state", "refresh", "Access", "ticket"] {
            assert_eq!(told(suspect.as_bytes()), Told::Suspect, "{suspect}");
        }
    }
}
