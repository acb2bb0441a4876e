package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds a configuration, in bytes.
const maxFile = 1 << 20

// Load reads and checks a configuration file. Its error is an Errors with
// every mistake that was found, or says why the file can't be read.
func Load(path string) (*Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w\nhint: `signet init DIR` writes one; name it with --config or SIGNET_CONFIG", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("configuration %s has mode %04o: others may change it\nhint: chmod go-w %s", path, info.Mode().Perm(), path)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("configuration %s has %d bytes, the limit is %d", path, info.Size(), maxFile)
	}
	data, err := os.ReadFile(path) //nolint:gosec // the file that the operator names
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads and checks a configuration. Its name is for messages, and its
// folder is what relative paths are relative to.
func Parse(name string, data []byte) (*Config, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, Errors{fromYAML(name, err)}
	}
	if err := noAliases(file); err != nil {
		return nil, Errors{{File: name, Line: err.line, Column: err.column, Problem: err.problem, Hint: "write the value out"}}
	}
	cfg := &Config{}
	dec := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := dec.Decode(cfg); err != nil {
		return nil, Errors{fromYAML(name, err)}
	}
	if len(file.Docs) > 1 {
		return nil, Errors{{File: name, Line: 1, Problem: "more than one YAML document", Hint: "remove the --- lines"}}
	}
	if errs := check(name, file, cfg); len(errs) > 0 {
		return nil, errs
	}
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	cfg.absolute(dir)
	return cfg, nil
}

// An aliasError is an anchor or an alias: a few of them can stand for a
// configuration of any size, and none is worth having.
type aliasError struct {
	line, column int
	problem      string
}

type aliasFinder struct{ found *aliasError }

// Visit implements ast.Visitor.
func (f *aliasFinder) Visit(n ast.Node) ast.Visitor {
	switch n.Type() { //nolint:exhaustive // all other nodes are plain
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType:
		if f.found == nil {
			p := n.GetToken().Position
			f.found = &aliasError{p.Line, p.Column, "anchors, aliases and merge keys are not taken"}
		}
	}
	return f
}

func noAliases(file *ast.File) *aliasError {
	f := &aliasFinder{}
	for _, d := range file.Docs {
		if d.Body != nil {
			ast.Walk(f, d.Body)
		}
	}
	return f.found
}

// absolute makes relative paths absolute.
func (c *Config) absolute(dir string) {
	paths := []*string{&c.StateDir, &c.RuntimeDir, &c.Ledger.Dir}
	for i := range c.Backends {
		b := &c.Backends[i]
		if b.Softkey != nil {
			paths = append(paths, &b.Softkey.Dir)
			paths = append(paths, b.Softkey.Secret.paths()...)
		}
		if b.PKCS11 != nil {
			paths = append(paths, b.PKCS11.PIN.paths()...)
		}
	}
	for i := range c.Profiles {
		for j := range c.Profiles[i].Conditions {
			paths = append(paths, &c.Profiles[i].Conditions[j])
		}
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func (s *Secret) paths() []*string {
	if s == nil {
		return nil
	}
	return []*string{&s.File}
}

// fromYAML turns the library's error into one of ours.
func fromYAML(name string, err error) Error {
	e := Error{File: name, Problem: err.Error(), Hint: "`signet check-config --schema` prints what the file may hold"}
	var y yaml.Error
	if !errors.As(err, &y) {
		return e
	}
	e.Problem = y.GetMessage()
	if t := y.GetToken(); t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	if field, ok := unknownField(e.Problem); ok {
		if near := nearest(field); near != "" {
			e.Hint = fmt.Sprintf("did you mean %q?", near)
		}
	}
	return e
}

func unknownField(problem string) (string, bool) {
	_, rest, ok := strings.Cut(problem, `unknown field "`)
	field, _, _ := strings.Cut(rest, `"`)
	return field, ok
}
