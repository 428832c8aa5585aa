//! What a Go template says, as a tree. Every `at` is the byte in its file where the thing starts.

/// One template: a file's own text, or the body of a `define`.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    pub nodes: Vec<Node>,
    /// Its variables; a variable counts into them. The first is `$`.
    pub variables: Vec<Variable>,
}

impl Body {
    /// Whether it has nothing but white space: such a body replaces no other of its name.
    pub fn is_empty(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node, Node::Text { text } if text.trim().is_empty()))
    }
}

/// A variable, one for each place that declares it: a name declared twice is two.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    /// Without the `$`.
    pub name: String,
    /// Whether some `$x = ` gives it another value later.
    pub assigned: bool,
    /// Whether anything reads it.
    pub read: bool,
}

/// One piece of a body.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text {
        text: String,
    },
    /// `{{ pipeline }}`.
    Action {
        pipe: Pipe,
    },
    /// `{{ if }}` with its `else if`s.
    If(Branches),
    /// `{{ with }}` with its `else with`s.
    With(Branches),
    Range(Range),
    /// `{{ template "name" pipeline }}`.
    Template {
        at: usize,
        name: String,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

#[derive(Clone, Debug)]
pub(super) struct Branches {
    /// At least one.
    pub branches: Vec<(Pipe, Vec<Node>)>,
    /// What comes after `else`.
    pub otherwise: Option<Vec<Node>>,
}

#[derive(Clone, Debug)]
pub(super) struct Range {
    pub pipe: Pipe,
    pub body: Vec<Node>,
    pub otherwise: Option<Vec<Node>>,
    /// Whether a `break` or `continue` in it means this loop.
    pub jumps: bool,
}

/// `$x := a | b c`.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub at: usize,
    /// The variables that it sets, at most two.
    pub targets: Vec<usize>,
    /// Whether it declares them.
    pub declares: bool,
    /// At least one.
    pub commands: Vec<Command>,
}

/// A value, or a function or method with its arguments: at least one operand.
pub(super) type Command = Vec<Operand>;

#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub at: usize,
    pub what: What,
    /// The names after it: `.A.B`.
    pub chain: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Dot,
    Nil,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// The number of the variable in [`Body::variables`].
    Variable(usize),
    Function(String),
    Pipe(Box<Pipe>),
}
