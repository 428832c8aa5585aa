//! The dialogue against servers that follow a script: refusals, silence, nonsense, lost connections.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use super::{tests::settings, *};
use crate::{FailureKind, sample};

/// What a server does next.
enum Next {
    Say(&'static str),
    /// The same, each byte in a packet of its own.
    Spell(&'static str),
    /// Closes the connection.
    Drop,
    /// Says nothing more, and stays.
    Silence,
}
use Next::{Drop as Close, Say, Silence, Spell};

/// A server whose answers are a function of what it is told; the greeting answers `""`, the mail itself `"mail"`.
struct Scripted {
    port: u16,
    /// What it was told, over all connections; `"connect"` for each.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(script: impl Fn(&str) -> Next + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), heard.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                log.lock().expect("no panic").push("connect".to_owned());
                tokio::spawn(serve(stream, script.clone(), log.clone()));
            }
        });
        Scripted { port, heard }
    }

    fn email(&self, more: &str) -> Email {
        let port = self.port;
        let yaml = format!(
            "{{to: [a@example.com, b@example.com, c@example.com], from: ams2@example.com, smtp: 'smtp://127.0.0.1:{port}'{more}}}"
        );
        let settings = settings(&yaml);
        Email { letters: settings.letters().expect("right"), server: settings.server().expect("right") }
    }

    fn heard(&self, what: &str) -> usize {
        self.heard.lock().expect("no panic").iter().filter(|line| line.starts_with(what)).count()
    }
}

async fn serve<F: Fn(&str) -> Next>(
    stream: tokio::net::TcpStream,
    script: Arc<F>,
    log: Arc<Mutex<Vec<String>>>,
) {
    stream.set_nodelay(true).expect("set");
    let mut stream = BufReader::new(stream);
    let mut told = String::new();
    loop {
        match script(&told) {
            Close => return,
            Silence => {
                // Until the client has had enough.
                let _ = stream.read_to_end(&mut Vec::new()).await;
                return;
            }
            next @ (Say(words) | Spell(words)) => {
                let piece = if matches!(next, Spell(_)) { 1 } else { words.len().max(1) };
                for piece in words.as_bytes().chunks(piece) {
                    if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                if words.starts_with("354") {
                    let mut mail = Vec::new();
                    while !mail.ends_with(b"\r\n.\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => mail.push(byte),
                            Err(_) => return,
                        }
                    }
                    log.lock().expect("no panic").push(String::from_utf8(mail).expect("ASCII"));
                    told = "mail".into();
                    continue;
                }
            }
        }
        told.clear();
        match stream.read_line(&mut told).await {
            Ok(1..) => told.truncate(told.trim_end().len()),
            _ => return,
        }
        log.lock().expect("no panic").push(told.clone());
    }
}

/// What a server says that takes everything.
fn friendly(told: &str) -> Next {
    Say(match told.split([' ', ':']).next().unwrap_or_default() {
        "" => "220 mail.example.com ESMTP\r\n",
        "EHLO" => "250-mail.example.com\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n",
        "DATA" => "354 go on\r\n",
        "mail" => "250 2.0.0 queued as 4711\r\n",
        "QUIT" => "221 bye\r\n",
        _ => "250 fine\r\n",
    })
}

async fn tell(email: &Email, delivery: &Delivery) -> Result<Receipt, Failure> {
    let mut results = email.deliver(std::slice::from_ref(delivery), Duration::from_secs(20)).await;
    results.remove(0)
}

#[tokio::test]
async fn a_mail_that_is_taken_is_delivered_in_the_servers_words() {
    let server = Scripted::start(friendly).await;
    let email = server.email("");
    let Ok(Receipt::Delivered { reply, memo, unfinished, refused }) = tell(&email, &sample::delivery()).await
    else {
        panic!("not delivered");
    };
    assert_eq!((reply.as_str(), unfinished, refused), ("250 2.0.0 queued as 4711", vec![], vec![]));
    assert_eq!(memo, Some(format!("<{}@example.com>", sample::delivery().id).into_bytes()));
    assert_eq!((server.heard("MAIL FROM:<ams2@example.com>"), server.heard("RCPT TO:")), (1, 3));
    tell(&email, &sample::delivery()).await.expect("delivered");
    assert_eq!(server.heard("connect"), 1, "the connection is used again");
    let words = email.probe(Duration::from_secs(20)).await.expect("it is well");
    assert!(words.contains("mail.example.com greets, without TLS"), "{words}");
    assert_eq!(server.heard("MAIL FROM"), 2, "a probe sends nothing");
}

#[tokio::test]
async fn each_recipient_has_an_outcome_of_its_own() {
    let server = Scripted::start(|told| match told {
        "RCPT TO:<b@example.com>" => Say("451 4.7.1 greylisted\r\n"),
        "RCPT TO:<c@example.com>" => Say("550 5.1.1 no such user\r\n"),
        _ => friendly(told),
    })
    .await;
    let email = server.email("");
    let told = tell(&email, &sample::delivery()).await;
    let Ok(Receipt::Delivered { reply, unfinished, refused, .. }) = told else {
        panic!("not delivered");
    };
    assert_eq!(reply, "250 2.0.0 queued as 4711; b@example.com: 451 4.7.1 greylisted", "both sides of it");
    let of = |text: &str| recipient(&text.parse().expect("an address"));
    assert_eq!(unfinished, [of("b@example.com")]);
    assert_eq!(refused, [(of("c@example.com"), "c@example.com: 550 5.1.1 no such user".to_owned())]);
    // The next attempt is for the one that is left, and nobody gets it yet.
    let again = Delivery { unfinished: Some(unfinished), attempt: 2, ..sample::delivery() };
    let failure = tell(&email, &again).await.expect_err("greylisted still");
    assert_eq!(failure.kind, FailureKind::Deferred, "that says nothing of the server");
    assert!(failure.reason.ends_with("b@example.com: 451 4.7.1 greylisted"), "{}", failure.reason);
    assert_eq!(server.heard("RCPT TO:<a@example.com>"), 1);
    assert_eq!((server.heard("DATA"), server.heard("RSET")), (1, 1));
    let gone = Delivery { unfinished: Some(vec![of("c@EXAMPLE.com")]), ..sample::delivery() };
    let failure = tell(&email, &gone).await.expect_err("no such user");
    assert_eq!(failure.kind, FailureKind::Permanent);
    // Builds before this one kept the place in the list.
    let old = Delivery { unfinished: Some(vec![Recipient::at(2)]), ..sample::delivery() };
    assert_eq!(tell(&email, &old).await.expect_err("no such user").kind, FailureKind::Permanent);
}

#[tokio::test]
async fn whatever_is_said_of_one_recipient_keeps_the_mail_from_nobody_else() {
    // RFC 5321 section 4.2.1, but for what speaks of us (RFC 4954 section 6) and 552 (RFC 5321 section 4.5.3.1.10).
    let rows = [
        ("450 4.2.0 greylisted\r\n", true),
        ("454 4.7.1 relay access denied\r\n", true),
        ("503 5.5.1 not now\r\n", true),
        ("530 5.7.0 log in first\r\n", true),
        ("534 5.7.9 log in better\r\n", true),
        ("535 5.7.8 not you\r\n", true),
        ("538 5.7.11 encrypt\r\n", true),
        ("552 5.5.3 too many recipients\r\n", true),
        ("550 5.1.1 no such user\r\n", false),
        ("553 5.1.3 no such name\r\n", false),
        ("554 5.7.1 relay access denied\r\n", false),
    ];
    let b = recipient(&"b@example.com".parse().expect("an address"));
    for (answer, is_for_now) in rows {
        let refuses = move |told: &str| match told {
            "RCPT TO:<b@example.com>" => Say(answer),
            _ => friendly(told),
        };
        let server = Scripted::start(refuses).await;
        let email = server.email("");
        let told = tell(&email, &sample::delivery()).await;
        let Ok(Receipt::Delivered { unfinished, refused, .. }) = told else {
            panic!("{answer}: {told:?}");
        };
        let refused: Vec<Recipient> = refused.into_iter().map(|(recipient, _)| recipient).collect();
        let expected = if is_for_now { (vec![b], vec![]) } else { (vec![], vec![b]) };
        assert_eq!((unfinished, refused), expected, "{answer}");
        // Alone it is no word on the server either.
        let alone = Delivery { unfinished: Some(vec![b]), ..sample::delivery() };
        let failure = tell(&email, &alone).await.expect_err(answer);
        let kind = if is_for_now { FailureKind::Deferred } else { FailureKind::Permanent };
        assert_eq!(failure.kind, kind, "{answer}");
        assert_eq!(server.heard("connect"), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_mail_that_nobody_has_is_a_failure_though_one_is_given_up() {
    // One is refused for good; then the mail as a whole is refused for now, or the answer to it is lost.
    let rows: [(fn() -> Next, FailureKind, &str); 3] = [
        (|| Say("452 disk full\r\n"), FailureKind::Transient, "452 disk full"),
        (|| Say("421 enough\r\n"), FailureKind::Transient, "421 enough"),
        (|| Close, FailureKind::Uncertain, "it may have the mail"),
    ];
    let of = |text: &str| recipient(&text.parse().expect("an address"));
    for (then, kind, words) in rows {
        let server = Scripted::start(move |told| match told {
            "RCPT TO:<b@example.com>" => Say("550 5.1.1 no such user\r\n"),
            "mail" => then(),
            _ => friendly(told),
        })
        .await;
        match tell(&server.email(""), &sample::delivery()).await {
            // Where the dialogue broke off, everybody is asked for again.
            Err(failure) if words != "452 disk full" => {
                assert_eq!(failure.kind, kind, "{failure:?}");
                assert!(failure.reason.contains(words), "{failure:?}");
            }
            Ok(Receipt::Partial { failure, unfinished, refused }) => {
                assert_eq!(failure.kind, kind, "{failure:?}");
                assert!(failure.reason.contains(words), "{failure:?}");
                assert_eq!(unfinished, [of("a@example.com"), of("c@example.com")]);
                assert_eq!(
                    refused,
                    [(of("b@example.com"), "b@example.com: 550 5.1.1 no such user".to_owned())]
                );
            }
            told => panic!("{words}: {told:?}"),
        }
    }
    // One is put off, one is given up, the third is not asked for.
    let server = Scripted::start(|told| match told {
        "RCPT TO:<b@example.com>" => Say("550 5.1.1 no such user\r\n"),
        "RCPT TO:<c@example.com>" => Say("451 4.7.1 greylisted\r\n"),
        _ => friendly(told),
    })
    .await;
    let two =
        Delivery { unfinished: Some(vec![of("b@example.com"), of("c@example.com")]), ..sample::delivery() };
    let Ok(Receipt::Partial { failure, unfinished, refused }) = tell(&server.email(""), &two).await else {
        panic!("somebody has it");
    };
    assert_eq!(failure.kind, FailureKind::Deferred);
    assert_eq!((unfinished, refused.len()), (vec![of("c@example.com")], 1));
}

#[tokio::test]
async fn an_answer_that_is_lost_behind_the_first_hundred_may_be_a_duplicate() {
    let mails = Mutex::new(0);
    let server = Scripted::start(move |told| {
        let mut mails = mails.lock().expect("no panic");
        *mails += i32::from(told == "mail");
        if told == "mail" && *mails == 2 { Close } else { friendly(told) }
    })
    .await;
    let mut email = server.email("");
    email.letters.to = (0..250).map(|n| format!("p{n}@example.com").parse().expect("a mailbox")).collect();
    let Ok(Receipt::Partial { failure, unfinished, refused }) = tell(&email, &sample::delivery()).await
    else {
        panic!("the second hundred may have it");
    };
    assert_eq!((failure.kind, unfinished.len(), refused), (FailureKind::Uncertain, 150, vec![]));
    assert!(failure.reason.starts_with("250 2.0.0 queued as 4711; "), "{failure:?}");
}

#[tokio::test]
async fn who_is_in_the_list_no_more_is_dropped_and_the_receipt_says_so() {
    let server = Scripted::start(friendly).await;
    let email = server.email("");
    let of = |text: &str| recipient(&text.parse().expect("an address"));
    let words = |told: Result<Receipt, Failure>| match told {
        Ok(Receipt::Delivered { reply, memo: Some(_), unfinished, refused }) => {
            assert_eq!((unfinished, refused), (vec![], vec![]));
            reply
        }
        told => panic!("{told:?}"),
    };
    let left = vec![of("b@example.com"), of("x@example.com"), of("y@example.com")];
    let said = words(tell(&email, &Delivery { unfinished: Some(left), ..sample::delivery() }).await);
    assert_eq!(said, "250 2.0.0 queued as 4711; 2 recipients that were left are not in `to` any more");
    assert_eq!((server.heard("RCPT TO:"), server.heard("RCPT TO:<b@example.com>")), (1, 1));
    let left = vec![of("x@example.com")];
    let said = words(tell(&email, &Delivery { unfinished: Some(left), ..sample::delivery() }).await);
    assert_eq!(said, "nobody is left to be told: 1 recipient that was left is not in `to` any more");
    assert_eq!(server.heard("RCPT TO:"), 1);
}

#[tokio::test]
async fn who_is_in_the_list_twice_gets_one_mail() {
    let server = Scripted::start(friendly).await;
    let mut email = server.email("");
    email.letters.to[2] = "a@EXAMPLE.com".parse().expect("a mailbox");
    tell(&email, &sample::delivery()).await.expect("delivered");
    assert_eq!(server.heard("RCPT TO:"), 2);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    use FailureKind::{Deferred, Permanent, Transient};
    // Told, answered, and what that means; 5xx about us (RFC 4954) waits for the setting to be mended.
    let rows = [
        ("", "554 no service\r\n", Transient, "554 no service"),
        ("", "421 too busy\r\n", Transient, "421 too busy"),
        ("EHLO", "500 what?\r\n", Transient, "500 what?"),
        ("MAIL", "451 later\r\n", Transient, "451 later"),
        ("MAIL", "421 shutting down\r\n", Transient, "421 shutting down"),
        ("MAIL", "530 5.7.0 must issue STARTTLS first\r\n", Transient, "530 5.7.0"),
        ("MAIL", "550 we do not know you\r\n", Permanent, "550 we do not know you"),
        ("MAIL", "503 who are you?\r\n", Transient, "503 who are you?"),
        ("RCPT", "550 nobody here\r\n", Permanent, "c@example.com: 550 nobody here"),
        ("RCPT", "452 too many recipients\r\n", Deferred, "452 too many recipients"),
        ("RCPT", "421 too many connections\r\n", Transient, "421 too many connections"),
        ("DATA", "451 no room\r\n", Transient, "451 no room"),
        ("DATA", "554 no valid recipients\r\n", Permanent, "554 no valid recipients"),
        ("mail", "452 disk full\r\n", Transient, "452 disk full"),
        ("mail", "552-too\r\n552 big\r\n", Permanent, "552 too big"),
        ("mail", "554 spam\r\n", Permanent, "554 spam"),
    ];
    for (at, answer, kind, words) in rows {
        let server = Scripted::start(move |told| {
            if told.split([' ', ':']).next() == Some(at) { Say(answer) } else { friendly(told) }
        })
        .await;
        let failure = tell(&server.email(""), &sample::delivery()).await.expect_err(answer);
        assert_eq!(failure.kind, kind, "{at} {answer}: {failure:?}");
        assert!(failure.reason.contains(words), "{at} {answer}: {failure:?}");
    }
}

#[tokio::test]
async fn a_refused_data_leaves_nothing_behind_that_the_next_mail_stumbles_over() {
    // Whether RSET is understood; without it a server takes no second MAIL (RFC 5321 section 4.1.4).
    for resets in [true, false] {
        let (data, open) = (Mutex::new(0), Mutex::new(false));
        let server = Scripted::start(move |told| {
            let mut open = open.lock().expect("no panic");
            match told.split([' ', ':']).next().unwrap_or_default() {
                "" => *open = false,
                "MAIL" if *open => return Say("503 5.5.1 nested MAIL command\r\n"),
                "MAIL" => *open = true,
                "DATA" => {
                    let mut data = data.lock().expect("no panic");
                    *data += 1;
                    if *data <= 2 {
                        return Say(["451 later\r\n", "554 no\r\n"][*data - 1]);
                    }
                }
                "RSET" if !resets => return Say("502 what?\r\n"),
                "RSET" | "mail" => *open = false,
                _ => {}
            }
            friendly(told)
        })
        .await;
        let email = server.email("");
        let failure = tell(&email, &sample::delivery()).await.expect_err("451");
        assert!(
            failure.kind == FailureKind::Transient && failure.reason.ends_with("451 later"),
            "{failure:?}"
        );
        let failure = tell(&email, &sample::delivery()).await.expect_err("554");
        assert!(failure.kind == FailureKind::Permanent && failure.reason.ends_with("554 no"), "{failure:?}");
        tell(&email, &sample::delivery()).await.expect("delivered");
        assert_eq!(server.heard("connect"), if resets { 1 } else { 3 });
    }
}

/// The server takes one mail on each connection and answers the next with `refusal`: each is delivered, at its first attempt.
async fn one_mail_a_connection(refusal: &'static str) {
    let mails = Mutex::new(0);
    let server = Scripted::start(move |told| {
        let mut mails = mails.lock().expect("no panic");
        match told {
            "" => *mails = 0,
            "mail" => *mails += 1,
            _ => {}
        }
        if told.starts_with("MAIL") && *mails > 0 { Say(refusal) } else { friendly(told) }
    })
    .await;
    let email = server.email("");
    for _ in 0..3 {
        tell(&email, &sample::delivery()).await.expect("delivered");
    }
    assert_eq!(server.heard("connect"), 3);
}

#[tokio::test]
async fn a_server_that_lost_the_thread_of_the_dialogue_is_greeted_anew() {
    // It takes one mail a connection, and calls the next a bad sequence of commands.
    one_mail_a_connection("503 bad sequence\r\n").await;
}

#[tokio::test]
async fn a_connection_lost_after_the_mail_is_tried_again_with_the_same_message_id() {
    let server = Scripted::start(|told| if told == "mail" { Close } else { friendly(told) }).await;
    let email = server.email("");
    for _ in 0..2 {
        let failure = tell(&email, &sample::delivery()).await.expect_err("nobody knows");
        assert_eq!(failure.kind, FailureKind::Uncertain, "{failure:?}");
        assert!(failure.reason.contains("it may have the mail"), "{failure:?}");
    }
    let heard = server.heard.lock().expect("no panic");
    let mails: Vec<&String> = heard.iter().filter(|line| line.contains("Message-ID")).collect();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0], mails[1]);
}

#[tokio::test]
async fn silence_and_nonsense_fail_in_time_and_in_bounds() {
    let nonsense: &'static str = Box::leak(format!("220 {}", "x".repeat(10 << 20)).into_boxed_str());
    let endless: &'static str = Box::leak("250-more\r\n".repeat(1 << 20).into_boxed_str());
    let rows: [(&str, fn() -> Next, &str); 4] = [
        ("", || Silence, "its greeting"),
        ("MAIL", || Silence, "MAIL FROM"),
        ("mail", || Silence, "the mail"),
        ("", || Say("\u{0}\u{1}binary\r\n"), ""),
    ];
    for (at, next, words) in rows {
        let server =
            Scripted::start(
                move |told| {
                    if told.split([' ', ':']).next() == Some(at) { next() } else { friendly(told) }
                },
            )
            .await;
        let soon = Duration::from_millis(300);
        let mut results = server.email("").deliver(&[sample::delivery()], soon).await;
        let failure = results.remove(0).expect_err("no answer");
        let kind = if at == "mail" { FailureKind::Uncertain } else { FailureKind::Transient };
        assert_eq!(failure.kind, kind, "{at}");
        assert!(failure.reason.contains(words), "{at}: {failure:?}");
    }
    for (at, flood) in [("", nonsense), ("EHLO", endless)] {
        let server = Scripted::start(move |told| {
            if told.split([' ', ':']).next() == Some(at) { Say(flood) } else { friendly(told) }
        })
        .await;
        let failure = tell(&server.email(""), &sample::delivery()).await.expect_err("a flood");
        assert!(failure.reason.contains("more than any mail server has to say"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_server_that_spells_its_answers_is_understood() {
    let server = Scripted::start(|told| match friendly(told) {
        Say(words) => Spell(words),
        other => other,
    })
    .await;
    let told = tell(&server.email(""), &sample::delivery()).await;
    let Ok(Receipt::Delivered { reply, .. }) = told else { panic!("{told:?}") };
    assert_eq!(reply, "250 2.0.0 queued as 4711");
}

#[tokio::test]
async fn a_name_without_an_address_waits() {
    let yaml =
        "{to: [a@example.com], from: ams2@example.com, smtp: 'smtp://no-such-host.invalid', tls: none}";
    let settings = settings(yaml);
    let (letters, server) = (settings.letters().expect("right"), settings.server().expect("right"));
    let failure = tell(&Email { letters, server }, &sample::delivery()).await.expect_err("nowhere");
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.reason.starts_with("no-such-host.invalid:587: "), "{failure:?}");
}

#[tokio::test]
async fn a_connection_that_died_while_it_waited_costs_no_attempt() {
    // Each connection takes one mail and says good-bye to the next: a limit that servers have.
    one_mail_a_connection("421 enough\r\n").await;
}

#[tokio::test]
async fn without_the_tls_that_is_required_nothing_is_said() {
    // It does not offer STARTTLS; it refuses; it speaks on in the clear, as one does who stands in the middle.
    let rows: [(fn(&str) -> Next, &str); 3] = [
        (friendly, "it does not offer STARTTLS"),
        (
            |told| match told {
                "STARTTLS" => Say("454 not now\r\n"),
                told if told.starts_with("EHLO") => Say("250-mail\r\n250 STARTTLS\r\n"),
                told => friendly(told),
            },
            "it answers STARTTLS with 454 not now",
        ),
        (
            |told| match told {
                "STARTTLS" => Say("220 go on\r\n250 injected\r\n"),
                told if told.starts_with("EHLO") => Say("250-mail\r\n250 STARTTLS\r\n"),
                told => friendly(told),
            },
            "said in the clear after STARTTLS",
        ),
    ];
    for (script, words) in rows {
        let server = Scripted::start(script).await;
        let email = server.email(", tls: required, user: me, password: canary");
        let failure = tell(&email, &sample::delivery()).await.expect_err("no TLS");
        assert_eq!(failure.kind, FailureKind::Transient);
        assert!(failure.reason.contains(words), "{failure:?}");
        assert_eq!(server.heard("MAIL") + server.heard("AUTH"), 0);
    }
}

#[tokio::test]
async fn a_login_that_is_refused_waits_and_shows_no_password() {
    let server = Scripted::start(|told| match told {
        told if told.starts_with("AUTH") => Say("535 5.7.8 authentication failed\r\n"),
        told => friendly(told),
    })
    .await;
    let email = server.email(", user: me, password: canary");
    let failure = tell(&email, &sample::delivery()).await.expect_err("refused");
    assert_eq!(failure.kind, FailureKind::Transient, "the setting is wrong, not the mail");
    assert!(failure.reason.contains("does not let us in as me: 535 5.7.8"), "{failure:?}");
    assert!(!failure.reason.contains("canary"));
    assert_eq!(server.heard("MAIL"), 0);
}

#[tokio::test]
async fn thousands_of_recipients_go_in_hundreds() {
    let server = Scripted::start(friendly).await;
    let mut email = server.email("");
    let to = |n: usize| format!("p{n}@example.com").parse().expect("a mailbox");
    email.letters.to = (0..1050).map(to).collect();
    let Ok(Receipt::Delivered { unfinished, refused, .. }) = tell(&email, &sample::delivery()).await else {
        panic!("not delivered");
    };
    assert_eq!((unfinished.len(), refused.len()), (0, 0));
    assert_eq!((server.heard("MAIL FROM"), server.heard("RCPT TO"), server.heard("connect")), (11, 1050, 1));
}

#[tokio::test]
async fn an_address_that_needs_utf8_is_refused_alone_where_the_server_knows_none() {
    let server = Scripted::start(friendly).await;
    let mut email = server.email("");
    email.letters.to[1] = "пример@example.com".parse().expect("a mailbox");
    let Ok(Receipt::Delivered { refused, unfinished, .. }) = tell(&email, &sample::delivery()).await else {
        panic!("not delivered");
    };
    assert_eq!((refused.len(), unfinished.len()), (1, 0));
    assert!(refused[0].1.contains("SMTPUTF8"), "{refused:?}");
}
