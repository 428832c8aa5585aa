//! Golden rows: whole sets of templates, and HTML.

use super::Oracle::{self, Amtool as A, Go as G};

/// A set in the shape that sites have: subject, lists, and a text for each kind of receiver.
pub(super) const SITE: &str = include_str!("site.tmpl");

/// Who confirmed it, files, the setting, and what it gives.
#[rustfmt::skip]
pub(super) const ROWS: &[(Oracle, &[(&str, &str)], &str, &str)] = &[
    (A, &[("site.tmpl", SITE)], "{{ template \"subject\" . }}", "[FIRING:2] DiskFull node (shadowed EU one)"),
    (A, &[("site.tmpl", SITE)], "{{ template \"description\" . }}", ""),
    (A, &[("site.tmpl", SITE)], "{{ template \"slack.text\" . }}", "*CRITICAL* Disk of db-1 is full :fire: <https://wiki.example.com/disk?a=1&b=2|runbook>\n*WARNING* Disk of db-2 was full\n*CRITICAL* DiskFull on db-3 :fire:"),
    (A, &[("site.tmpl", SITE)], "{{ template \"slack.title\" . }}", "[FIRING:2] DiskFull node (shadowed EU one) | https://am.example.com:9093/#/alerts?receiver=team-a"),
    (A, &[("site.tmpl", SITE)], "{{ template \"pager.message\" . }}", "[FIRING:2] DiskFull node (shadowed EU one)\nFiring:\n\nLabels:\n  - alertname = DiskFull\n  - device-id = sda<1>\n  - instance = db-1:9100\n  - job = node\n  - severity = critical\nAnnotations:\n  - description = 97.5 % used & rising\n  - runbook_url = https://wiki.example.com/disk?a=1&b=2\n  - summary = Disk of db-1 is full\nSource: https://prometheus.example.com/graph?g0.expr=up%3D%3D0\n\nLabels:\n  - alertname = DiskFull\n  - instance = db-3:9100\n  - job = node\n  - severity = critical\n  - zone = ü\nSource: https://prometheus.example.com/\n\nResolved:\n\nLabels:\n  - alertname = DiskFull\n  - instance = db-2:9100\n  - job = node\n  - severity = warning\nAnnotations:\n  - summary = Disk of db-2 was full\nSource: none\n"),
    (A, &[("site.tmpl", SITE)], "{{ template \"chat.message\" . }}", "db-1:9100, db-3:9100"),
    (A, &[("site.tmpl", SITE)], "{{ template \"mail.text\" . }}", "Alert router of https://am.example.com:9093\n\nFiring:\n\nLabels:\n  - alertname = DiskFull\n  - device-id = sda<1>\n  - instance = db-1:9100\n  - job = node\n  - severity = critical\nAnnotations:\n  - description = 97.5 % used & rising\n  - runbook_url = https://wiki.example.com/disk?a=1&b=2\n  - summary = Disk of db-1 is full\nSource: https://prometheus.example.com/graph?g0.expr=up%3D%3D0\n\nLabels:\n  - alertname = DiskFull\n  - instance = db-3:9100\n  - job = node\n  - severity = critical\n  - zone = ü\nSource: https://prometheus.example.com/\n\nResolved:\n\nLabels:\n  - alertname = DiskFull\n  - instance = db-2:9100\n  - job = node\n  - severity = warning\nAnnotations:\n  - summary = Disk of db-2 was full\nSource: none\n\ndb-1:9100  firing     5 labels\ndb-2:9100  resolved   4 labels\ndb-3:9100  firing     5 labels\n"),
    (A, &[("site.tmpl", SITE)], "{{ template \"webhook.url\" . }}", "https://am.example.com:9093/#/alerts?receiver=team-a"),
    (A, &[("site.tmpl", SITE)], "{{ template \"table\" . }}", "| Names      | shadowed |\n| alertname  | DiskFull |\n| cluster    | EU one |\n| job        | node |\n"),
    (A, &[("site.tmpl", SITE)], "Subject: {{ template \"subject\" . }}\n\n{{ template \"mail.text\" . }}\n", "Subject: [FIRING:2] DiskFull node (shadowed EU one)\n\nAlert router of https://am.example.com:9093\n\nFiring:\n\nLabels:\n  - alertname = DiskFull\n  - device-id = sda<1>\n  - instance = db-1:9100\n  - job = node\n  - severity = critical\nAnnotations:\n  - description = 97.5 % used & rising\n  - runbook_url = https://wiki.example.com/disk?a=1&b=2\n  - summary = Disk of db-1 is full\nSource: https://prometheus.example.com/graph?g0.expr=up%3D%3D0\n\nLabels:\n  - alertname = DiskFull\n  - instance = db-3:9100\n  - job = node\n  - severity = critical\n  - zone = ü\nSource: https://prometheus.example.com/\n\nResolved:\n\nLabels:\n  - alertname = DiskFull\n  - instance = db-2:9100\n  - job = node\n  - severity = warning\nAnnotations:\n  - summary = Disk of db-2 was full\nSource: none\n\ndb-1:9100  firing     5 labels\ndb-2:9100  resolved   4 labels\ndb-3:9100  firing     5 labels\n\n"),
    (A, &[("site.tmpl", SITE)], "{{ template \"alert_list\" .Alerts.Firing }}--{{ template \"alert_list\" .Alerts }}", "\nLabels:\n  - alertname = DiskFull\n  - device-id = sda<1>\n  - instance = db-1:9100\n  - job = node\n  - severity = critical\nAnnotations:\n  - description = 97.5 % used & rising\n  - runbook_url = https://wiki.example.com/disk?a=1&b=2\n  - summary = Disk of db-1 is full\nSource: https://prometheus.example.com/graph?g0.expr=up%3D%3D0\n\nLabels:\n  - alertname = DiskFull\n  - instance = db-3:9100\n  - job = node\n  - severity = critical\n  - zone = ü\nSource: https://prometheus.example.com/\n--\nLabels:\n  - alertname = DiskFull\n  - device-id = sda<1>\n  - instance = db-1:9100\n  - job = node\n  - severity = critical\nAnnotations:\n  - description = 97.5 % used & rising\n  - runbook_url = https://wiki.example.com/disk?a=1&b=2\n  - summary = Disk of db-1 is full\nSource: https://prometheus.example.com/graph?g0.expr=up%3D%3D0\n\nLabels:\n  - alertname = DiskFull\n  - instance = db-2:9100\n  - job = node\n  - severity = warning\nAnnotations:\n  - summary = Disk of db-2 was full\nSource: none\n\nLabels:\n  - alertname = DiskFull\n  - instance = db-3:9100\n  - job = node\n  - severity = critical\n  - zone = ü\nSource: https://prometheus.example.com/\n"),
    (A, &[("site.tmpl", SITE)], "{{ range .Alerts }}{{ template \"labels\" .Labels }}{{ end }}{{ template \"labels\" .CommonLabels }}", "  - alertname = DiskFull\n  - device-id = sda<1>\n  - instance = db-1:9100\n  - job = node\n  - severity = critical\n  - alertname = DiskFull\n  - instance = db-2:9100\n  - job = node\n  - severity = warning\n  - alertname = DiskFull\n  - instance = db-3:9100\n  - job = node\n  - severity = critical\n  - zone = ü\n  - alertname = DiskFull\n  - Names = shadowed\n  - cluster = EU one\n  - job = node\n"),
    (A, &[("a.tmpl", "{{ define \"a\" }}old{{ end }}"), ("b.tmpl", "{{ define \"a\" }}new{{ end }}")], "{{ template \"a\" . }}", "new"),
    (A, &[("a.tmpl", "{{ define \"a\" }}old{{ end }}"), ("b.tmpl", "{{ define \"a\" }} \n{{ end }}")], "{{ template \"a\" . }}", "old"),
    (A, &[("b.tmpl", "file of {{ .Receiver }}")], "{{ template \"b.tmpl\" . }}", "file of team-a"),
    (A, &[("a.tmpl", "{{ define \"a\" }}old{{ end }}{{ define \"b\" }}[{{ template \"a\" . }}]{{ end }}")], "{{ define \"a\" }}own{{ end }}{{ template \"b\" . }}", "[own]"),
    (A, &[("a.tmpl", "{{ define \"a\" }}{{ template \"b\" .Alerts }}{{ end }}"), ("b.tmpl", "{{ define \"b\" }}{{ range . }}{{ template \"c\" .Labels }}{{ end }}{{ end }}{{ define \"c\" }}{{ .instance }},{{ end }}")], "{{ template \"a\" . }}", "db-1:9100,db-2:9100,db-3:9100,"),
];

/// The same for HTML, where characters may be written in different ways.
#[rustfmt::skip]
pub(super) const HTML: &[(Oracle, &str, &str)] = &[
    (A, "<!-- c {{ .Status }} -->x<p><!-- a -->{{ .Status }}</p>{{ if .Status }}<!-- -->y{{ end }}z", "x<p>firing</p>yz"),
    (A, "<p>{{ .CommonLabels.cluster }} {{ \"<b>\" }} {{ \"<i>\" | safeHtml }}</p>", "<p>EU one &lt;b&gt; <i></p>"),
    (A, "{{ range .Alerts }}<li>{{ index .Labels \"device-id\" }}</li>{{ end }}", "<li>sda&lt;1&gt;</li><li></li><li></li>"),
    (A, "{{ define \"x\" }}<b>{{ . }}</b>{{ end }}{{ template \"x\" \"a & b\" }}", "<b>a &amp; b</b>"),
    (A, "<a href=\"{{ .ExternalURL }}\">x</a>{{ printf \"<%s>\" \"y\" }}{{ \"a\" | html }}", "<a href=\"https://am.example.com:9093\">x</a>&lt;y&gt;a"),
    (G, "{{ $d := dict }}{{ $d.x }}|{{ join \"<\" (stringSlice \"a\" \"b\") }}", "|a&lt;b"),
];
