//! The kinds of secrets a recording may hold, and where in a text one was found.

use std::ops::Range;

/// What kind of secret something is, by what gives it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secret {
    /// An e-mail address.
    Email,
    /// The number of a payment card.
    Card,
    /// A JSON web token.
    Jwt,
    /// A bank account's number.
    Iban,
    /// An IPv4 or IPv6 address.
    Address,
    /// A telephone number in international form.
    Phone,
    /// A key of a well-known service, by how it begins.
    Key,
    /// Twenty and more letters and digits that look drawn by lot.
    Token,
    /// The value of a field whose name says so.
    Field,
    /// The value of a cookie.
    Cookie,
    /// What follows the scheme in an Authorization header.
    Credentials,
    /// The value of a header that is not known to be harmless.
    Header,
    /// A body that is neither a form nor JSON.
    Body,
}

impl Secret {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Email,
        Self::Card,
        Self::Jwt,
        Self::Iban,
        Self::Address,
        Self::Phone,
        Self::Key,
        Self::Token,
        Self::Field,
        Self::Cookie,
        Self::Credentials,
        Self::Header,
        Self::Body,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Card => "card",
            Self::Jwt => "jwt",
            Self::Iban => "iban",
            Self::Address => "ip",
            Self::Phone => "phone",
            Self::Key => "key",
            Self::Token => "token",
            Self::Field => "field",
            Self::Cookie => "cookie",
            Self::Credentials => "credentials",
            Self::Header => "header",
            Self::Body => "body",
        }
    }
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::recording) enum Coding {
    /// As it is, or percent-encoded.
    Percent,
    /// As the inside of a JSON string with escapes, behind so many percent-encodings.
    Json(u8),
    /// As a JSON number, perhaps percent-encoded: it must stay one.
    Number,
    /// As bytes without any meaning we know.
    Opaque,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::recording) struct Found {
    /// In bytes of the text as written. Never empty.
    pub(in crate::recording) range: Range<usize>,
    pub(in crate::recording) secret: Secret,
    pub(in crate::recording) coding: Coding,
}

/// Joins what overlaps, so that nothing is replaced twice; the text's order results.
pub(in crate::recording) fn merge(found: &mut Vec<Found>) {
    found.sort_by_key(|one| (one.range.start, one.secret));
    found.dedup_by(|next, kept| {
        let overlaps = next.range.start < kept.range.end;
        if overlaps {
            kept.range.end = kept.range.end.max(next.range.end);
        }
        overlaps
    });
}
