//! Reads the tokens of a Go template file into its bodies: the file's own text, and each `define`.

use super::{
    Mistake,
    ast::{Body, Branches, Node, Range, Variable},
    lex::{self, Kind, Token},
};

/// Longest file, in bytes: Alertmanager's own templates together have 20 KiB.
pub(super) const SOURCE_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of blocks and parentheses: readers of templates give up before.
const NESTING_MAX: usize = 48;
/// Most pieces and values of one file.
const NODES_MAX: usize = 20_000;

/// The bodies of one file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub body: Body,
    /// In the order of the file.
    pub definitions: Vec<(String, Body)>,
}

pub(super) fn file(source: &str) -> Result<File, Mistake> {
    if source.len() > SOURCE_BYTES_MAX {
        let what = format!("the template has {} bytes; at most {SOURCE_BYTES_MAX} are read", source.len());
        return Err(Mistake::at(source, 0, what));
    }
    let mut parser = Parser {
        source,
        tokens: lex::tokens(source)?,
        position: 0,
        nodes: 0,
        operands: 0,
        depth: 0,
        open: Vec::new(),
        scopes: vec![Scope::new()],
        definitions: Vec::new(),
    };
    let (nodes, stop) = parser.list(true)?;
    if stop != Stop::File {
        return Err(parser.mistake(format!("{{{{ {} }}}} without a block", stop.shown())));
    }
    let body = parser.finish(nodes);
    Ok(File { body, definitions: parser.definitions })
}

pub(super) struct Parser<'a> {
    pub(super) source: &'a str,
    tokens: Vec<Token>,
    pub(super) position: usize,
    nodes: usize,
    /// How many values and functions the current action has so far.
    pub(super) operands: usize,
    depth: usize,
    /// Where the blocks start that are not closed yet, and their words.
    open: Vec<(usize, String)>,
    /// One for the file, and one more inside a `define` or `block`.
    pub(super) scopes: Vec<Scope>,
    definitions: Vec<(String, Body)>,
}

/// The variables of the body that is being read.
pub(super) struct Scope {
    pub(super) variables: Vec<Variable>,
    /// Numbers of those that can be named here, inner ones last.
    pub(super) visible: Vec<usize>,
    /// For each open `range`, whether something jumps.
    jumps: Vec<bool>,
}

impl Scope {
    fn new() -> Scope {
        let dollar = Variable { name: String::new(), assigned: false, read: true };
        Scope { variables: vec![dollar], visible: vec![0], jumps: Vec::new() }
    }
}

/// What ended a list of nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    File,
    End,
    Else,
}

impl Stop {
    fn shown(self) -> &'static str {
        match self {
            Stop::File => "the end of the file",
            Stop::End => "end",
            Stop::Else => "else",
        }
    }
}

impl Parser<'_> {
    pub(super) fn mistake(&self, what: impl Into<String>) -> Mistake {
        Mistake::at(self.source, self.at(), what)
    }

    pub(super) fn at(&self) -> usize {
        self.tokens[self.position].at
    }

    pub(super) fn peek(&self) -> &Kind {
        &self.tokens[self.position].kind
    }

    pub(super) fn next(&mut self) -> Kind {
        let kind = self.tokens[self.position].kind.clone();
        // The last token is the end of the file, and stays.
        self.position = (self.position + 1).min(self.tokens.len() - 1);
        kind
    }

    pub(super) fn skip_space(&mut self) {
        while *self.peek() == Kind::Space {
            self.next();
        }
    }

    pub(super) fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("the file's scope stays")
    }

    fn finish(&mut self, nodes: Vec<Node>) -> Body {
        Body { nodes, variables: std::mem::take(&mut self.scope().variables) }
    }

    pub(super) fn count(&mut self) -> Result<(), Mistake> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.mistake(format!("the template has more than {NODES_MAX} parts")));
        }
        Ok(())
    }

    pub(super) fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, Mistake>,
    ) -> Result<T, Mistake> {
        if self.depth == NESTING_MAX {
            return Err(self.mistake(format!("blocks or parentheses nest deeper than {NESTING_MAX}")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Nodes up to `end`, `else` or the end of the file; that word is read, what follows it is not.
    fn list(&mut self, top: bool) -> Result<(Vec<Node>, Stop), Mistake> {
        let mut nodes = Vec::new();
        loop {
            self.count()?;
            match self.next() {
                Kind::End => return Ok((nodes, Stop::File)),
                Kind::Text(text) => nodes.push(Node::Text { text }),
                Kind::Open => {
                    self.skip_space();
                    match self.peek() {
                        Kind::Word(word) if word == "end" => return Ok((nodes, Stop::End)),
                        Kind::Word(word) if word == "else" => return Ok((nodes, Stop::Else)),
                        Kind::Word(word) if word == "define" => {
                            if !top {
                                return Err(self.mistake("`define` inside another block"));
                            }
                            self.define()?;
                        }
                        _ => nodes.push(self.deeper(Self::action)?),
                    }
                }
                _ => return Err(self.mistake("text was expected")),
            }
        }
    }

    fn action(&mut self) -> Result<Node, Mistake> {
        let word = match self.peek() {
            Kind::Word(word) => word.clone(),
            _ => String::new(),
        };
        let visible = self.scope().visible.len();
        self.open.push((self.at(), word.clone()));
        let node = match &word[..] {
            "if" => self.branches(&word).map(Node::If),
            "with" => self.branches(&word).map(Node::With),
            "range" => self.range(),
            "template" => self.template(),
            "block" => self.block(),
            "break" | "continue" => self.jump(&word),
            _ => {
                self.open.pop();
                let pipe = self.pipeline("the action", 1)?;
                self.close()?;
                return Ok(Node::Action { pipe });
            }
        };
        self.open.pop();
        self.scope().visible.truncate(visible);
        node
    }

    fn close(&mut self) -> Result<(), Mistake> {
        self.skip_space();
        if *self.peek() != Kind::Close {
            return Err(self.mistake(format!("{} is not expected here", self.peek().shown())));
        }
        self.next();
        Ok(())
    }

    /// The nodes up to `end` or `else`, for a block that the file must close.
    fn inner(&mut self) -> Result<(Vec<Node>, Stop), Mistake> {
        let visible = self.scope().visible.len();
        let (nodes, stop) = self.list(false)?;
        self.scope().visible.truncate(visible);
        if stop == Stop::File {
            let (at, word) = self.open.last().expect("blocks are entered here");
            return Err(Mistake::at(self.source, *at, format!("this `{word}` has no `{{{{ end }}}}`")));
        }
        self.next();
        Ok((nodes, stop))
    }

    /// What follows `else`, up to and with `end`.
    fn otherwise(&mut self) -> Result<Vec<Node>, Mistake> {
        self.close()?;
        match self.inner()? {
            (nodes, Stop::End) => {
                self.close()?;
                Ok(nodes)
            }
            _ => Err(self.mistake("a second `else`")),
        }
    }

    fn branches(&mut self, word: &str) -> Result<Branches, Mistake> {
        let mut branches = Vec::new();
        loop {
            self.count()?;
            self.next();
            let pipe = self.pipeline(word, 1)?;
            self.close()?;
            let (nodes, stop) = self.inner()?;
            branches.push((pipe, nodes));
            if stop == Stop::End {
                self.close()?;
                return Ok(Branches { branches, otherwise: None });
            }
            self.skip_space();
            match self.peek() {
                Kind::Word(again) if again == word => {}
                _ => return Ok(Branches { branches, otherwise: Some(self.otherwise()?) }),
            }
        }
    }

    fn range(&mut self) -> Result<Node, Mistake> {
        self.next();
        let pipe = self.pipeline("range", 2)?;
        self.close()?;
        self.scope().jumps.push(false);
        let (body, stop) = self.inner()?;
        let jumps = self.scope().jumps.pop().unwrap_or(false);
        let otherwise = match stop {
            Stop::Else => Some(self.otherwise()?),
            _ => {
                self.close()?;
                None
            }
        };
        Ok(Node::Range(Range { pipe, body, otherwise, jumps }))
    }

    fn jump(&mut self, word: &str) -> Result<Node, Mistake> {
        match self.scope().jumps.last_mut() {
            Some(jumps) => *jumps = true,
            None => return Err(self.mistake(format!("`{word}` outside a `range`"))),
        }
        self.next();
        self.close()?;
        Ok(if word == "break" { Node::Break } else { Node::Continue })
    }

    fn name(&mut self) -> Result<String, Mistake> {
        self.next();
        self.skip_space();
        match self.peek().clone() {
            Kind::Quoted(name) => {
                self.next();
                Ok(name)
            }
            other => Err(self.mistake(format!("a name in quotes is expected, not {}", other.shown()))),
        }
    }

    fn template(&mut self) -> Result<Node, Mistake> {
        let at = self.at();
        let name = self.name()?;
        self.skip_space();
        let pipe = match self.peek() {
            Kind::Close => None,
            _ => Some(self.pipeline("template", 0)?),
        };
        self.close()?;
        Ok(Node::Template { at, name, pipe })
    }

    /// Reads the body of a template up to its `end`, with variables of its own.
    fn body(&mut self) -> Result<Body, Mistake> {
        self.scopes.push(Scope::new());
        let (nodes, stop) = self.inner()?;
        if stop == Stop::Else {
            return Err(self.mistake("`else` without `if`, `with` or `range`"));
        }
        self.close()?;
        let body = self.finish(nodes);
        self.scopes.pop();
        Ok(body)
    }

    fn define(&mut self) -> Result<(), Mistake> {
        let at = self.at();
        self.open.push((at, "define".into()));
        let name = self.name()?;
        self.close()?;
        let body = self.body()?;
        self.open.pop();
        self.add(at, name, body)
    }

    /// Keeps a definition. Two that say something cannot have one name in one file.
    fn add(&mut self, at: usize, name: String, body: Body) -> Result<(), Mistake> {
        let same = |(other, one): &&mut (String, Body)| *other == name && !one.is_empty();
        match self.definitions.iter_mut().find(same) {
            Some(_) if !body.is_empty() => {
                return Err(Mistake::at(self.source, at, format!("{name:?} is defined twice in this file")));
            }
            Some(_) => {}
            None => self.definitions.push((name, body)),
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Node, Mistake> {
        let at = self.at();
        let name = self.name()?;
        let pipe = self.pipeline("block", 0)?;
        self.close()?;
        let body = self.body()?;
        self.add(at, name.clone(), body)?;
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }
}
