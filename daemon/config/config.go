// Package config is the daemon's configuration: the shape of its YAML file,
// decoded strictly and checked whole before anything is opened. Every mistake
// names file, line and field and says what mends it. No secret is ever in it.
package config

import (
	_ "embed" // the schema
	"path/filepath"

	"github.com/signetd/signet/signers"
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
	Issuers    Issuers   `yaml:"issuers,omitempty" jsonschema_description:"Limits of issuer processes, and what contains them."`
	Plugins    []Plugin  `yaml:"plugins,omitempty" jsonschema_description:"Issuers that are not signet's own: programs that know a token format."`
	Tokens     Tokens    `yaml:"tokens,omitempty" jsonschema_description:"What the daemon remembers of tokens."`
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
	Type    string   `yaml:"type" jsonschema:"required,enum=softkey,enum=pkcs11,enum=awskms,enum=gcpkms" jsonschema_description:"softkey (encrypted files), pkcs11 (an HSM), awskms (AWS KMS) or gcpkms (Google Cloud KMS)."`
	Softkey *Softkey `yaml:"softkey,omitempty" jsonschema_description:"Settings of type softkey."`
	PKCS11  *PKCS11  `yaml:"pkcs11,omitempty" jsonschema_description:"Settings of type pkcs11."`
	AWSKMS  *AWSKMS  `yaml:"awskms,omitempty" jsonschema_description:"Settings of type awskms."`
	GCPKMS  *GCPKMS  `yaml:"gcpkms,omitempty" jsonschema_description:"Settings of type gcpkms."`
	Limits  Limits   `yaml:"limits,omitempty" jsonschema_description:"What keeps it from harming the others when it is slow or sick."`
	Health  Health   `yaml:"health,omitempty" jsonschema_description:"How it is looked after."`
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
	Module      string   `yaml:"module,omitempty" jsonschema_description:"Absolute path of the vendor's PKCS#11 module."`
	URI         string   `yaml:"uri,omitempty" jsonschema_description:"The token as a PKCS#11 URI (RFC 7512), instead of module, token_label and token_serial: pkcs11:token=LABEL;serial=SERIAL?module-path=PATH. A PIN in it is refused."`
	TokenLabel  string   `yaml:"token_label,omitempty" empty:"ok" jsonschema_description:"The token's label; label or serial is needed."`
	TokenSerial string   `yaml:"token_serial,omitempty" empty:"ok" jsonschema_description:"The token's serial number."`
	PIN         *Secret  `yaml:"pin" jsonschema:"required" jsonschema_description:"Where the user PIN is read when it is needed. A wrong PIN is never tried twice."`
	Sessions    int      `yaml:"sessions,omitempty" jsonschema:"minimum=1,maximum=64" jsonschema_description:"Sessions to sign with, 1 to 64; 2 if absent. As many as the HSM works on at a time."`
	KeepAlive   Duration `yaml:"keep_alive,omitempty" jsonschema_description:"How often idle sessions are looked at, so that a token that drops them is met before a caller is; 1m if absent."`
	Isolation   string   `yaml:"isolation,omitempty" jsonschema:"enum=process,enum=none" jsonschema_description:"process: the module runs in a process of its own, whose crash or hang costs its own keys a pause and nobody else anything. none, the default: in the daemon."`
	HangAfter   Duration `yaml:"hang_after,omitempty" jsonschema_description:"How long one signature may take inside the module before it counts as hanging; 3s if absent. With isolation: process the process is then ended and started again."`
	Network     bool     `yaml:"network,omitempty" jsonschema_description:"The module reaches its HSM over a network: with isolation: process nothing else may use one."`
	Files       []string `yaml:"files,omitempty" jsonschema_description:"With isolation: process, absolute paths that the module reads and writes: its token's files, its devices. If there are any, it may otherwise only read the system's own directories (Landlock); if absent, files are not restricted."`
	Environment []string `yaml:"environment,omitempty" jsonschema_description:"Variables of the daemon's environment that the module's process gets, beside those that are known to name a module's own configuration."`
	Quirks      Quirks   `yaml:"quirks,omitempty" jsonschema_description:"What this vendor's module does otherwise. signers/pkcs11/README.md has the modules that are known."`
}

// AWSKMS are the settings of AWS KMS. Credentials are none of them: the SDK's
// default chain finds them.
type AWSKMS struct {
	Region        string   `yaml:"region" jsonschema:"required" jsonschema_description:"The region of the keys, such as eu-central-1. A multi-region key is used in this region alone."`
	AliasPrefix   string   `yaml:"alias_prefix,omitempty" jsonschema_description:"What the aliases of our keys begin with, after alias/; signet/ if absent. Daemons that do not share keys have prefixes of their own."`
	Endpoint      string   `yaml:"endpoint,omitempty" jsonschema_description:"URL of another endpoint than the region's, such as a VPC endpoint."`
	AllowEndpoint bool     `yaml:"allow_endpoint,omitempty" jsonschema_description:"The endpoint may be off loopback: whoever answers there sees what is signed."`
	DeleteAfter   int      `yaml:"delete_after_days,omitempty" jsonschema:"minimum=7,maximum=30" jsonschema_description:"Days between destroying a key and its end, in which it can be saved and not used; 30 if absent."`
	Settle        Duration `yaml:"settle,omitempty" jsonschema_description:"For how long the service may not find what was just made; 30s if absent."`
}

// GCPKMS are the settings of Google Cloud KMS. Credentials are none of them:
// the default ones are used.
type GCPKMS struct {
	KeyRing    string   `yaml:"key_ring" jsonschema:"required" jsonschema_description:"projects/PROJECT/locations/LOCATION/keyRings/RING. Names in it are never free again."`
	Protection string   `yaml:"protection,omitempty" jsonschema:"enum=HSM,enum=SOFTWARE,enum=EXTERNAL,enum=EXTERNAL_VPC" jsonschema_description:"Protection level that every key must have: HSM, the default, SOFTWARE, EXTERNAL (keys are made in the external key manager and adopted) or EXTERNAL_VPC."`
	Connection string   `yaml:"connection,omitempty" jsonschema_description:"projects/PROJECT/locations/LOCATION/ekmConnections/CONNECTION: where keys of EXTERNAL_VPC are made. Without it they are adopted."`
	Endpoint   string   `yaml:"endpoint,omitempty" jsonschema_description:"For tests: address and port of a fake on loopback, without TLS and credentials."`
	Generation Duration `yaml:"generation,omitempty" jsonschema_description:"For how long a new key may be generated; 1m if absent."`
}

// Quirks are what vendors' modules do otherwise than the standard, or than
// each other.
type Quirks struct {
	InitializeArgs   string   `yaml:"initialize_args,omitempty" jsonschema_description:"C_Initialize's reserved argument."`
	MaxSessions      int      `yaml:"max_sessions,omitempty" jsonschema:"minimum=2" jsonschema_description:"Sessions that the token has in all."`
	Login            string   `yaml:"login,omitempty" jsonschema:"enum=token,enum=session" jsonschema_description:"What a login is good for: token, the default, or session."`
	ReadOnlySessions bool     `yaml:"read_only_sessions,omitempty" jsonschema_description:"Sessions only to read and sign: for keys that were adopted, since none can be made."`
	PublicReadOnly   bool     `yaml:"public_read_only,omitempty" jsonschema_description:"Public objects come and go with the private ones and can't be destroyed by themselves."`
	EdDSAMechanism   int      `yaml:"eddsa_mechanism,omitempty" jsonschema:"minimum=1" jsonschema_description:"Number of CKM_EDDSA; 0x1057 if absent."`
	EdDSAGenerate    int      `yaml:"eddsa_generate,omitempty" jsonschema:"minimum=1" jsonschema_description:"Number of CKM_EC_EDWARDS_KEY_PAIR_GEN; 0x1055 if absent."`
	EdDSAParams      string   `yaml:"eddsa_params,omitempty" jsonschema:"enum=oid,enum=name" jsonschema_description:"CKA_EC_PARAMS of Ed25519: oid, the default, or name, the PrintableString edwards25519."`
	ECPoint          string   `yaml:"ec_point,omitempty" jsonschema:"enum=auto,enum=raw,enum=der" jsonschema_description:"CKA_EC_POINT: raw, der (in an OCTET STRING), or auto, the default: its length tells."`
	Omit             []string `yaml:"omit,omitempty" jsonschema_description:"Attributes that the module refuses in the template of a new key, such as CKA_SIGN_RECOVER. What the token says of them is read back all the same."`
	Algorithms       []string `yaml:"algorithms,omitempty" jsonschema_description:"Algorithms to use, for a module that offers some that it can't do as signet needs; all that it offers if absent."`
	Unattested       []string `yaml:"unattested,omitempty" jsonschema_description:"Attributes that the module reports wrongly, and which are therefore not held against a key. Only some can be: never CKA_SENSITIVE or CKA_EXTRACTABLE."`
}

// Limits keep a back-end that is slow or sick from harming the others.
type Limits struct {
	InFlight int      `yaml:"in_flight,omitempty" jsonschema:"minimum=1" jsonschema_description:"Signatures that may be under way or waiting; 128 if absent. More are refused at once."`
	Rate     int      `yaml:"rate,omitempty" jsonschema:"minimum=1" jsonschema_description:"Signatures a second; no limit if absent, but for gcpkms 900 in software and 45 elsewhere. What is over waits for its turn until its deadline."`
	Rates    Rates    `yaml:"rates,omitempty" jsonschema_description:"Signatures a second by kind of key, as the services count them; no limit if absent, but for awskms 450 of each. Beside rate, both hold."`
	Failures int      `yaml:"failures,omitempty" jsonschema:"minimum=1" jsonschema_description:"Failures in a row after which calls are refused at once, for pause; 8 if absent."`
	Pause    Duration `yaml:"pause,omitempty" jsonschema_description:"How long calls are refused before one is let through to try; 1s if absent."`

	CreationsPerHour int `yaml:"creations_per_hour,omitempty" jsonschema:"minimum=1" jsonschema_description:"Keys that the back-end may be asked to make in any hour, over all starts of the daemon; if absent 20 where keys cost money (awskms, gcpkms) and 1000 elsewhere."`
}

// Rates are signatures a second by kind of key.
type Rates struct {
	RSA int `yaml:"rsa,omitempty" jsonschema:"minimum=1" jsonschema_description:"With RSA keys."`
	ECC int `yaml:"ecc,omitempty" jsonschema:"minimum=1" jsonschema_description:"With keys on elliptic curves, Ed25519 too."`
}

// Health says how a back-end is looked after.
type Health struct {
	Every   Duration `yaml:"every,omitempty" jsonschema_description:"How often a signature is made with a key of its own and verified; 30s if absent. It backs off while it fails."`
	Timeout Duration `yaml:"timeout,omitempty" jsonschema_description:"How long it may take; 5s if absent."`
	Off     bool     `yaml:"off,omitempty" jsonschema_description:"Make no such key and no such signature."`
}

// A Secret says where a secret is, never what it is: exactly one of these.
type Secret struct {
	Credential string   `yaml:"credential,omitempty" jsonschema_description:"Name of a systemd credential."`
	File       string   `yaml:"file,omitempty" jsonschema_description:"A file that only its owner may read, root or the daemon's user."`
	Command    []string `yaml:"command,omitempty" jsonschema_description:"A command, by absolute path, that prints it."`
}

// A Key is what a key is, for life.
type Key struct {
	Name              string `yaml:"name" jsonschema:"required" jsonschema_description:"1 to 40 of a-z, 0-9 and '-', beginning with a letter."`
	Backend           string `yaml:"backend" jsonschema:"required" jsonschema_description:"The back-end that holds it."`
	Algorithm         string `yaml:"algorithm" jsonschema:"required" jsonschema_description:"Its one algorithm, such as ecdsa-p256-sha256, ed25519 or rsa3072-pss-sha256."`
	Format            string `yaml:"format" jsonschema:"required" jsonschema_description:"The one token format that it signs: jwt, paseto, ssh, or a plug-in's."`
	AllowBlindSigning bool   `yaml:"allow_blind_signing,omitempty" jsonschema_description:"Danger: sign what a plug-in drafts though nothing can read it back. Only for a plug-in's format, fixed when the key is made, never lifted or added later; such a key is published nowhere."`
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

// An Admin is an operator with rights.
type Admin struct {
	Caller `yaml:",inline"`
	Rights []string `yaml:"rights" jsonschema:"required,minItems=1,enum=view,enum=rotate,enum=revoke,enum=destroy,enum=policy" jsonschema_description:"view, rotate, revoke, destroy, policy. Revoke may be held alone."`
}

// Tokens bounds what the daemon remembers of tokens.
type Tokens struct {
	Most int `yaml:"most,omitempty" jsonschema:"minimum=1" jsonschema_description:"Opaque tokens, and single-use ones that were used, remembered at a time; 1000000 if absent. More are refused until some end."`
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

// ProfileFormat is the token format of a profile: its key's, unless it needs no
// key.
func (c *Config) ProfileFormat(p Profile) string {
	if p.Format != "" {
		return p.Format
	}
	return c.FormatOf(p.Key)
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

// algorithmOf is the algorithm of a key, "" for one that is not there.
func (c *Config) algorithmOf(key string) signers.Algorithm {
	for _, k := range c.Keys {
		if k.Name == key {
			return signers.Algorithm(k.Algorithm)
		}
	}
	return ""
}
