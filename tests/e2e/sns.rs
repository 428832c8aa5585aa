//! Amazon SNS, beside AWS's own code for signatures: a server in Python that signs what it gets once more with botocore.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::harness::*;

/// It knows the admin's key, gives out a role's, and takes a message that a key it knows has signed.
const PYTHON: &str = r#"
import http.server, os, urllib.parse
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEYS = {"AKIDEXAMPLE": ("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None), "ASIAEXAMPLE": ("of the/role+", "token/of+the==role")}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fields = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
        login = self.headers["Authorization"]
        part = lambda name: login.split(name + "=")[1].split(",")[0]
        key, _, region, service, _ = part("Credential").split("/")
        secret, token = KEYS[key]
        known = {"host", "x-amz-date", "x-amz-security-token"}
        headers = {name: self.headers[name] for name in part("SignedHeaders").split(";") if name not in known}
        request = AWSRequest("POST", "http://%s%s" % (self.headers["Host"], self.path), headers=headers, data=body)
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        signer = SigV4Auth(Credentials(key, secret, token), service, region)
        signer._modify_request_before_signing(request)
        canonical = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        if signature != part("Signature") or (token or "") != self.headers.get("X-Amz-Security-Token", ""):
            status, answer = 403, "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>"
        elif service == "sts":
            status, answer = 200, "<R><AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken></R>" % KEYS["ASIAEXAMPLE"]
        else:
            status, answer = 200, "<PublishResponse><MessageId>1</MessageId></PublishResponse>"
            with open("received", "a") as file:
                file.write(" ".join([key, region, fields["TopicArn"], fields["Subject"]]) + "\n")
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())
    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port.new", "w") as file:
    file.write(str(server.server_address[1]))
os.rename("port.new", "port")
server.serve_forever()
"#;

#[test]
fn botocore_signs_as_we_do_with_a_key_and_with_a_role() {
    let site = Site::new(EACH);
    // Debian's, whatever else is called python3 here.
    let mut command = Command::new("/usr/bin/python3");
    clean(&mut command);
    command.current_dir(site.path()).args(["-c", PYTHON]).stdin(Stdio::null());
    let said = fs::File::create(site.path().join("said")).expect("a file");
    let _python = Ward(command.stdout(Stdio::null()).stderr(said).spawn().expect("python3 runs"));
    let port = until("Python listens", || fs::read_to_string(site.path().join("port")).ok());
    site.secret("key", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    let keys = "access_key: AKIDEXAMPLE, secret_key_file: key";
    let urls = format!("api_url: 'http://127.0.0.1:{port}', sts_url: 'http://127.0.0.1:{port}/a%20b'");
    let topic = |name: &str| format!("topic_arn: 'arn:aws:sns:eu-west-1:1:{name}'");
    site.configure(&format!(
        "receivers:\n  - name: hooks\n    actions:\n      - sns: {{ {}, {keys}, {urls} }}\n      - sns: {{ {}, {keys}, {urls}, role_arn: 'arn:aws:iam::1:role/a' }}\nroute:\n  receiver: hooks\n  notify: each\n  routes:\n    - {{ matchers: ['source = \"ams2\"'], receiver: none }}\n",
        topic("key"),
        topic("role")
    ).replace("receivers:\n", "receivers:\n  - name: none\n"));
    run(ams2().args(["check", "--probe"]).arg(site.config())).ends(0);
    let server = site.start();
    server.post(&alert("Größe + 100% & more", "1")).is(200);
    for number in [0, 1] {
        until_true("it was published", || {
            let sample =
                format!("ams2_attempts_total{{action=\"hooks/sns/{number}\",outcome=\"delivered\"}}");
            server.metric(&sample) >= Some(1)
        });
    }
    let received = fs::read_to_string(site.path().join("received")).expect("published");
    let mut received: Vec<&str> = received.lines().collect();
    received.sort_unstable();
    let subject = "[FIRING] Größe + 100% & more";
    assert_eq!(received.len(), 2, "{received:?}");
    assert!(
        received[0].starts_with(&format!("AKIDEXAMPLE eu-west-1 arn:aws:sns:eu-west-1:1:key {subject}")),
        "{received:?}"
    );
    assert!(
        received[1].starts_with(&format!("ASIAEXAMPLE eu-west-1 arn:aws:sns:eu-west-1:1:role {subject}")),
        "{received:?}"
    );
}
