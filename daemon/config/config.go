// Package config is the daemon's configuration: the shape of its YAML file,
// decoded strictly and checked whole before anything is opened. Every mistake
// names file, line and field and says what mends it. No secret is ever in it.
package config

import (
	_ "embed" // the schema
	"path/filepath"
)

// A Config is a whole configuration. Relative paths are relative to its file.
type Config struct {
	Version    int       `yaml:"version" jsonschema:"required,enum=1" jsonschema_description:"Version of this file's form: 1."`
	StateDir   string    `yaml:"state_dir" jsonschema:"required" jsonschema_description:"Where the daemon keeps its records and its ledger; its alone (mode 0700)."`
	RuntimeDir string    `yaml:"runtime_dir" jsonschema:"required" jsonschema_description:"Where its sockets are: issue.sock, admin.sock, metrics.sock. Nobody else may write in it."`
	Sockets    Sockets   `yaml:"sockets,omitempty" jsonschema_description:"Who may connect at all."`
	Lifecycle  Lifecycle `yaml:"lifecycle,omitempty" jsonschema_description:"How keys age."`
	Backends   []Backend `yaml:"backends" jsonschema:"required,minItems=1" jsonschema_description:"Where private keys live."`
	Keys       []Key     `yaml:"keys" jsonschema:"required,minItems=1" jsonschema_description:"The keys there are. What a key is stays so for life."`
	Profiles   []Profile `yaml:"profiles" jsonschema:"required,minItems=1" jsonschema_description:"Kinds of token: who may have which, and what it may say. What no profile allows is refused."`
	Admins     []Admin   `yaml:"admins,omitempty" jsonschema_description:"Operators and their rights. Nobody has any unless listed."`
	Issuers    Issuers   `yaml:"issuers,omitempty" jsonschema_description:"Limits of issuer processes."`
	Ledger     Ledger    `yaml:"ledger,omitempty" jsonschema_description:"The audit ledger."`
	Log        Log       `yaml:"log,omitempty" jsonschema_description:"The daemon's log, on standard error."`

	src *source // the file, to say where a mistake is
}

// Sockets says who may connect at all; who may have what is for profiles and
// admins.
type Sockets struct {
	Mode  Mode   `yaml:"mode,omitempty" jsonschema_description:"Mode of issue.sock, octal in quotes; 0666 if absent: identity comes from the kernel, not from the mode."`
	Group string `yaml:"group,omitempty" empty:"ok" jsonschema_description:"Group of the sockets."`
}

// Lifecycle says how keys age.
type Lifecycle struct {
	LeadTime Duration `yaml:"lead_time,omitempty" jsonschema_description:"How long a version is published before it may sign: the longest that verifiers keep an old JWKS. 10m if absent."`
	Drain    Duration `yaml:"drain,omitempty" jsonschema_description:"How long a retired version finishes what was begun; 30s if absent."`
}

// A Backend is a place where private keys live.
type Backend struct {
	Name    string   `yaml:"name" jsonschema:"required" jsonschema_description:"Its name in this file."`
	Type    string   `yaml:"type" jsonschema:"required,enum=softkey,enum=pkcs11" jsonschema_description:"softkey (encrypted files) or pkcs11 (an HSM)."`
	Softkey *Softkey `yaml:"softkey,omitempty" jsonschema_description:"Settings of type softkey."`
	PKCS11  *PKCS11  `yaml:"pkcs11,omitempty" jsonschema_description:"Settings of type pkcs11."`
}

// Softkey are the settings of keys in encrypted files.
type Softkey struct {
	Dir          string  `yaml:"dir,omitempty" jsonschema_description:"Directory of the key files; its alone (mode 0700)."`
	Secret       *Secret `yaml:"secret,omitempty" jsonschema_description:"What opens the files: an age identity, or a passphrase."`
	Memory       bool    `yaml:"memory,omitempty" jsonschema_description:"For trials: keys in memory only, gone when the daemon ends."`
	UnsafeFaults *Faults `yaml:"unsafe_faults,omitempty" jsonschema_description:"For tests only: misbehave on purpose."`
}

// Faults make softkey slow, as an HSM behind a network is.
type Faults struct {
	Delay    Duration `yaml:"delay" jsonschema_description:"How long each signature takes."`
	Sessions int      `yaml:"sessions" jsonschema_description:"How many signatures are made at a time."`
}

// PKCS11 are the settings of an HSM.
type PKCS11 struct {
	Module      string  `yaml:"module" jsonschema:"required" jsonschema_description:"Absolute path of the vendor's PKCS#11 module."`
	TokenLabel  string  `yaml:"token_label,omitempty" empty:"ok" jsonschema_description:"The token's label; label or serial is needed."`
	TokenSerial string  `yaml:"token_serial,omitempty" empty:"ok" jsonschema_description:"The token's serial number."`
	PIN         *Secret `yaml:"pin" jsonschema:"required" jsonschema_description:"Where the user PIN is read when it is needed. A wrong PIN is never tried twice."`
	Sessions    int     `yaml:"sessions,omitempty" jsonschema:"minimum=1,maximum=64" jsonschema_description:"Sessions to sign with, 1 to 64; 2 if absent. As many as the HSM works on at a time."`
}

// A Secret says where a secret is, never what it is: exactly one of these.
type Secret struct {
	Credential string   `yaml:"credential,omitempty" jsonschema_description:"Name of a systemd credential."`
	File       string   `yaml:"file,omitempty" jsonschema_description:"A file that only its owner may read, root or the daemon's user."`
	Command    []string `yaml:"command,omitempty" jsonschema_description:"A command, by absolute path, that prints it."`
}

// A Key is what a key is, for life.
type Key struct {
	Name      string `yaml:"name" jsonschema:"required" jsonschema_description:"1 to 40 of a-z, 0-9 and '-', beginning with a letter."`
	Backend   string `yaml:"backend" jsonschema:"required" jsonschema_description:"The back-end that holds it."`
	Algorithm string `yaml:"algorithm" jsonschema:"required" jsonschema_description:"Its one algorithm, such as ecdsa-p256-sha256, ed25519 or rsa3072-pss-sha256."`
	Format    string `yaml:"format" jsonschema:"required,enum=jwt" jsonschema_description:"The one token format that it signs: jwt."`
}

// A Profile is one kind of token.
type Profile struct {
	Name          string   `yaml:"name" jsonschema:"required" jsonschema_description:"What callers ask for."`
	Key           string   `yaml:"key" jsonschema:"required" jsonschema_description:"The key that signs."`
	Issuer        string   `yaml:"issuer" jsonschema:"required" jsonschema_description:"iss of its tokens."`
	Type          string   `yaml:"type" jsonschema:"required" jsonschema_description:"typ of its tokens (RFC 8725 section 3.11), such as at+jwt: it keeps tokens of different purpose apart."`
	Callers       []Caller `yaml:"callers" jsonschema:"required,minItems=1" jsonschema_description:"Who may have one. Each entry must hold in full."`
	Audiences     []string `yaml:"audiences" jsonschema:"required,minItems=1" jsonschema_description:"Who tokens may be for, exactly."`
	Scopes        []string `yaml:"scopes,omitempty" jsonschema_description:"What tokens may be good for, exactly."`
	Subjects      []string `yaml:"subjects" jsonschema:"required,minItems=1" jsonschema_description:"Who tokens may be about: exactly, or with one * at the end."`
	MaxTTL        Duration `yaml:"max_ttl" jsonschema:"required" jsonschema_description:"The longest lifetime, at most 24h. A longer one is refused, not cut."`
	Claims        Claims   `yaml:"claims,omitempty" jsonschema_description:"Further claims."`
	RequireHolder bool     `yaml:"require_holder,omitempty" jsonschema_description:"Refuse tokens that are not bound to a holder (RFC 7800)."`
	Conditions    []string `yaml:"conditions,omitempty" jsonschema_description:"Files with Cedar policies, which must permit each request as well."`
}

// A Caller selects processes by what the kernel says of them. All that is
// named must hold.
type Caller struct {
	UID    *uint32 `yaml:"uid,omitempty" jsonschema:"minimum=0,maximum=4294967294" jsonschema_description:"Effective uid."`
	GID    *uint32 `yaml:"gid,omitempty" jsonschema:"minimum=0,maximum=4294967294" jsonschema_description:"Effective gid, or a supplementary group."`
	Unit   string  `yaml:"unit,omitempty" jsonschema_description:"systemd unit, such as build.service."`
	Cgroup string  `yaml:"cgroup,omitempty" jsonschema_description:"Control group, this one or one below it."`
	Exe    string  `yaml:"exe,omitempty" jsonschema_description:"Executable. It narrows the others and is never enough alone."`
}

// Claims are what a profile's tokens may say beside the registered claims.
type Claims struct {
	Allowed []string       `yaml:"allowed,omitempty" jsonschema_description:"Claims that the caller may set."`
	Fixed   map[string]any `yaml:"fixed,omitempty" jsonschema_description:"Claims that every token has, with their values."`
}

// An Admin is an operator with rights.
type Admin struct {
	Caller `yaml:",inline"`
	Rights []string `yaml:"rights" jsonschema:"required,minItems=1,enum=view,enum=rotate,enum=revoke,enum=destroy,enum=policy" jsonschema_description:"view, rotate, revoke, destroy, policy. Revoke may be held alone."`
}

// Issuers are the limits of issuer processes.
type Issuers struct {
	Deadline Duration `yaml:"deadline,omitempty" jsonschema_description:"How long a draft may take; 1s if absent."`
}

// Ledger says where the audit ledger is and how it is written.
type Ledger struct {
	Dir          string `yaml:"dir,omitempty" empty:"ok" jsonschema_description:"Its directory; state_dir/ledger if absent."`
	SegmentSize  Size   `yaml:"segment_size,omitempty" jsonschema_description:"A new file is begun past this size; 64MiB if absent."`
	UnsafeNoSync bool   `yaml:"unsafe_no_sync,omitempty" jsonschema_description:"For benchmarks only: a power cut loses records of tokens that were given out."`
}

// Log says how the daemon logs.
type Log struct {
	Level  string `yaml:"level,omitempty" jsonschema:"enum=debug,enum=info,enum=warn,enum=error" jsonschema_description:"debug, info, warn or error; info if absent."`
	Format string `yaml:"format,omitempty" jsonschema:"enum=text,enum=json" jsonschema_description:"text or json; text if absent."`
}

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema of the configuration, for editors.
func Schema() []byte { return schema }

// LedgerDir is where the ledger is.
func (c *Config) LedgerDir() string {
	if c.Ledger.Dir != "" {
		return c.Ledger.Dir
	}
	return filepath.Join(c.StateDir, "ledger")
}

// FormatOf is the token format of a key, "" for one that is not there.
func (c *Config) FormatOf(key string) string {
	for _, k := range c.Keys {
		if k.Name == key {
			return k.Format
		}
	}
	return ""
}
