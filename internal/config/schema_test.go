package config

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestSchema(t *testing.T) {
	got, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/schema.json", append(got, '\n'))
}

// Every key that can be used is in the schema with its description, and no other is.
func TestSchemaHasEveryKey(t *testing.T) {
	data, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	for _, r := range reference() {
		if property := find(schema, strings.Split(r.key, ".")); (property == nil) != r.later {
			t.Errorf("%s: in the schema %v, refused %v", r.key, property != nil, r.later)
		} else if !r.later && property["description"] != r.doc {
			t.Errorf("%s: description %q, want %q", r.key, property["description"], r.doc)
		}
	}
}

// find follows a key of the reference through a schema: NAME is any name, a trailing [] the items of a list.
func find(schema map[string]any, path []string) map[string]any {
	if len(path) == 0 || schema == nil {
		return schema
	}
	if path[0] == "NAME" {
		next, _ := schema["additionalProperties"].(map[string]any)
		return find(next, path[1:])
	}
	name, listed := strings.CutSuffix(path[0], "[]")
	properties, _ := schema["properties"].(map[string]any)
	next, _ := properties[name].(map[string]any)
	if listed {
		next = next["items"].(map[string]any)
	}
	if len(path) > 1 {
		next = mapping(next)
	}
	return find(next, path[1:])
}

// mapping returns the choice of a schema that is a mapping; the schema itself if it has no choices.
func mapping(schema map[string]any) map[string]any {
	choices, _ := schema["oneOf"].([]any)
	for _, choice := range choices {
		if choice := choice.(map[string]any); choice["type"] == "object" {
			return choice
		}
	}
	return schema
}

// The patterns of the schema accept what the parsers accept.
func TestSchemaPatterns(t *testing.T) {
	duration := regexp.MustCompile((*duration)(nil).schema().Pattern)
	for _, s := range []string{"0s", "1d12h", "90d", "100ms", "1d1h1m1s1ms"} {
		if _, err := ParseDuration(s); err != nil || !duration.MatchString(s) {
			t.Errorf("duration %q: parser %v, schema %v", s, err, duration.MatchString(s))
		}
	}
	size := regexp.MustCompile((*size)(nil).schema().Pattern)
	for _, s := range []string{"0B", "64KiB", "1MiB", "2GiB"} {
		if _, err := ParseSize(s); err != nil || !size.MatchString(s) {
			t.Errorf("size %q: parser %v, schema %v", s, err, size.MatchString(s))
		}
	}
}

// A default that its own key would refuse would be found by nobody else.
func TestDefaultsAreValid(t *testing.T) {
	r := &reading{wrong: map[string]bool{}, broken: map[string]bool{}}
	for _, raw := range []reflect.Value{
		reflect.ValueOf(new(rawConfig)), reflect.ValueOf(new(rawEnvironment)), reflect.ValueOf(new(rawSlot)),
		reflect.ValueOf(new(rawTunnel)), reflect.ValueOf(new(rawSocket)),
		reflect.ValueOf(new(rawService)), reflect.ValueOf(new(rawServiceFile)), reflect.ValueOf(new(rawValidate)), reflect.ValueOf(new(rawReload)), reflect.ValueOf(new(rawProbe)), reflect.ValueOf(new(rawSink)),
	} {
		r.structure(raw.Elem(), place{}, nil)
	}
	if len(r.problems) > 0 {
		t.Error(r.problems)
	}
}
