//! SPDX licence expressions, as far as packages use them: `AND`, `OR`, `WITH`, parentheses, and the old `/` for `OR`.

/// True if `expression` can be satisfied with licences of `allowed`; `None` if it cannot be read.
pub fn satisfied(expression: &str, allowed: &[String]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = spaced.split_whitespace().peekable();
    let value = any(&mut tokens, allowed)?;
    tokens.next().is_none().then_some(value)
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(tokens: &mut Tokens<'_>, allowed: &[String]) -> Option<bool> {
    let mut value = all(tokens, allowed)?;
    while tokens.next_if_eq(&"OR").is_some() {
        value |= all(tokens, allowed)?;
    }
    Some(value)
}

fn all(tokens: &mut Tokens<'_>, allowed: &[String]) -> Option<bool> {
    let mut value = one(tokens, allowed)?;
    while tokens.next_if_eq(&"AND").is_some() {
        value &= one(tokens, allowed)?;
    }
    Some(value)
}

fn one(tokens: &mut Tokens<'_>, allowed: &[String]) -> Option<bool> {
    match tokens.next()? {
        "(" => {
            let value = any(tokens, allowed)?;
            (tokens.next()? == ")").then_some(value)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        licence => match tokens.next_if_eq(&"WITH") {
            Some(_) => {
                let exact = format!("{licence} WITH {}", tokens.next()?);
                Some(allowed.contains(&exact))
            }
            None => Some(allowed.iter().any(|one| one == licence)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_satisfied_by_what_is_allowed_and_only_by_it() {
        let allowed: Vec<String> = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).to_vec();
        for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(GPL-3.0 OR MIT) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception OR X"] {
            assert_eq!(satisfied(good, &allowed), Some(true), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "Apache-2.0 WITH Other-exception", "GPL-3.0 OR MIT AND X"] {
            assert_eq!(satisfied(bad, &allowed), Some(false), "{bad}");
        }
        for broken in ["", "MIT AND", "(MIT", "MIT MIT", "OR MIT", "MIT WITH"] {
            assert_eq!(satisfied(broken, &allowed), None, "{broken}");
        }
    }
}
