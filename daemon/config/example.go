package config

import (
	"strings"
	"text/template"
)

// An Example is what `signet init` fills its configuration with.
type Example struct {
	UID       int    // who may ask for tokens and is the operator
	Algorithm string // of the key
}

// Text is a commented configuration that starts as it is, once the file
// softkey.secret stands beside it.
func (e Example) Text() (string, error) {
	var b strings.Builder
	err := exampleText.Execute(&b, e)
	return b.String(), err
}

var exampleText = template.Must(template.New("signet.yaml").Parse(`# signet.yaml: the daemon's whole configuration. Relative paths are relative to
# this file. Check it with: signet check-config
version: 1

state_dir: state      # records of keys, and the ledger; the daemon's alone
runtime_dir: run      # issue.sock, admin.sock, metrics.sock

lifecycle:
  lead_time: 10m      # a new version is published this long before it signs
  drain: 30s          # a retired version finishes what was begun

backends:
  - name: main
    type: softkey     # keys in encrypted files; type: pkcs11 for an HSM, see below
    softkey:
      dir: keys
      secret: {file: softkey.secret}     # or {credential: NAME} under systemd
# - name: hsm
#   type: pkcs11
#   pkcs11:
#     module: /usr/lib/softhsm/libsofthsm2.so
#     token_label: signet
#     pin: {file: pin}

keys:
  - name: demo        # made by: signet key create demo --reason "first key"
    backend: main
    algorithm: {{.Algorithm}}
    format: jwt       # the one format this key will ever sign

profiles:
  - name: demo
    key: demo
    issuer: https://signet.example       # iss
    type: at+jwt                         # typ: an access token (RFC 9068)
    callers: [{uid: {{.UID}}}]                # who may ask; unit: and cgroup: work as well
    audiences: [https://api.example]     # aud: exactly these
    scopes: [read, write]                # scope: any of these
    subjects: ["demo/*"]                 # sub: exact, or one * at the end
    max_ttl: 15m                         # a longer life is refused, not cut
    claims:
      allowed: [team]                    # the caller may set these
      fixed: {client_id: demo, environment: trial}     # every token has these

admins:
  - uid: {{.UID}}
    rights: [view, rotate, revoke, destroy, policy]

ledger:
  segment_size: 64MiB

log:
  level: info
  format: text
`))
