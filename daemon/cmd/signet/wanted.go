package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/daemon/client"
)

// wanted are the flags that describe a token, shared by issue and explain.
type wanted struct {
	subject    string
	audience   []string
	scope      []string
	ttl        time.Duration
	claims     string
	holder     map[string]string
	principals []string
	options    []string
	extensions []string
	publicKey  string
	assertion  string
}

func (w *wanted) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&w.subject, "subject", "", "who the token is about (sub); the key id of an SSH certificate")
	f.StringSliceVar(&w.audience, "audience", nil, "who may accept it (aud); repeat for more")
	f.StringSliceVar(&w.scope, "scope", nil, "what it is good for (scope); repeat for more")
	f.DurationVar(&w.ttl, "ttl", 5*time.Minute, "its lifetime, in whole seconds")
	f.StringVar(&w.claims, "claims", "", "further claims, as one JSON object")
	f.StringToStringVar(&w.holder, "holder", nil, "bind it to a holder: jkt=THUMBPRINT or x5t#S256=THUMBPRINT (RFC 7800)")
	f.StringVar(&w.publicKey, "public-key", "", "SSH: file with the key to certify, as ssh-keygen writes it (.pub)")
	f.StringSliceVar(&w.principals, "principal", nil, "SSH: account or host that it is for; repeat for more")
	// Values have commas of their own.
	f.StringArrayVar(&w.options, "option", nil, "SSH: critical option, name=value or name; repeat for more")
	f.StringArrayVar(&w.extensions, "extension", nil, "SSH: extension, name or name=value; repeat for more")
	f.StringVar(&w.assertion, "assertion", "", "PASETO: the implicit assertion, signed and not in the token")
}

// request is what the flags ask for.
func (w *wanted) request(profile string) (client.Request, error) {
	r := client.Request{
		Profile: profile, Subject: w.subject, Audience: w.audience,
		Scope: w.scope, TTL: w.ttl, Holder: w.holder, Principals: w.principals,
	}
	if w.claims != "" {
		r.Claims = json.RawMessage(w.claims)
	}
	if w.assertion != "" {
		r.Assertion = []byte(w.assertion)
	}
	var err error
	if r.Options, err = pairs("option", w.options); err != nil {
		return r, err
	}
	if r.Extensions, err = pairs("extension", w.extensions); err != nil {
		return r, err
	}
	if w.publicKey == "" {
		return r, nil
	}
	key, err := readPublicKey(w.publicKey)
	r.Holder = maps.Clone(r.Holder)
	if r.Holder == nil {
		r.Holder = map[string]string{}
	}
	r.Holder["sshkey"] = key
	return r, err
}

// pairs reads name=value flags, nil for none. Without an = the value is empty.
func pairs(flag string, all []string) (map[string]string, error) {
	var to map[string]string
	for _, one := range all {
		name, value, _ := strings.Cut(one, "=")
		if _, twice := to[name]; twice || name == "" {
			return nil, fmt.Errorf("--%s %q: no name, or one that is there already\nhint: --%s name=value, each name once", flag, one, flag)
		}
		if to == nil {
			to = map[string]string{}
		}
		to[name] = value
	}
	return to, nil
}

// readPublicKey reads a .pub file: its one key, without the comment.
func readPublicKey(file string) (string, error) {
	f, err := os.Open(file) //nolint:gosec // a file that the user names
	if err != nil {
		return "", fmt.Errorf("public key: %w\nhint: name the .pub file that ssh-keygen wrote", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxInput))
	if err != nil {
		return "", fmt.Errorf("public key: %w", err)
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey(data)
	if err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return "", fmt.Errorf("public key %s: not one key in the form of authorized_keys, without options\nhint: name the .pub file that ssh-keygen wrote, never the private key", file)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}
