package config

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// schemaID names the schema; nothing is served there.
const schemaID = "https://github.com/spinecert/spinecert/spinecert.schema.json"

// Schema returns the JSON Schema of the configuration, for editors and other tools. What the schema cannot say (that a
// slot exists, that an inbound tunnel names its peers) only [Parse] finds.
func Schema() ([]byte, error) {
	s := reflected(reflect.TypeFor[rawConfig]())
	s.Version, s.ID = jsonschema.Version, schemaID
	s.Title = "spinecert.yaml"
	s.Description = "Configuration of the spinecertd daemon."
	s.Required = []string{"environments"}
	return json.MarshalIndent(s, "", "  ")
}

// describing is a raw type with a schema of its own.
type describing interface {
	schema() *jsonschema.Schema
}

// reflected returns the schema of a raw type, whole and without references.
func reflected(t reflect.Type) *jsonschema.Schema {
	if self, ok := reflect.New(t).Interface().(describing); ok {
		return self.schema()
	}
	reflector := jsonschema.Reflector{
		Anonymous:                  true,
		DoNotReference:             true,
		ExpandedStruct:             true,
		RequiredFromJSONSchemaTags: true,
		FieldNameTag:               "yaml",
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if self, ok := reflect.New(t).Interface().(describing); ok {
				return self.schema()
			}
			return nil
		},
	}
	s := reflector.ReflectFromType(t)
	s.Version = ""
	describe(s, t)
	return s
}

// describe adds what the tags of a raw struct say to the properties of its schema, and takes away the keys that this
// version refuses.
func describe(s *jsonschema.Schema, t reflect.Type) {
	for i := range t.NumField() {
		field := t.Field(i)
		name := field.Tag.Get("yaml")
		property, ok := s.Properties.Get(name)
		switch {
		case name == "":
			s.Properties.Delete(field.Name)
			continue
		case field.Type == reflect.TypeFor[later]():
			s.Properties.Delete(name)
			continue
		case !ok:
			continue
		}
		if _, self := reflect.New(field.Type).Interface().(describing); !self {
			describe(property, field.Type)
		}
		property.Description = field.Tag.Get("doc")
		restrict(property, field.Tag)
	}
}

func restrict(s *jsonschema.Schema, tag reflect.StructTag) {
	values := s
	if s.Items != nil {
		values = s.Items
	}
	for _, word := range words(tag, "enum") {
		values.Enum = append(values.Enum, word)
	}
	if len(values.Enum) > 0 && tag.Get("default") == "" && s.Items == nil {
		values.Enum = append(values.Enum, "")
	}
	fallback := tag.Get("default")
	switch {
	case s.Type == "integer":
		s.Minimum, s.Maximum = json.Number(tag.Get("min")), json.Number(tag.Get("max"))
		s.Default = json.Number(fallback)
	case fallback == "":
	case s.Type == "boolean":
		s.Default, _ = strconv.ParseBool(fallback)
	case s.Type == "array":
		s.Default = strings.Split(fallback, ",")
	default:
		s.Default = fallback
	}
}

func (*text) schema() *jsonschema.Schema    { return &jsonschema.Schema{Type: "string"} }
func (*path) schema() *jsonschema.Schema    { return &jsonschema.Schema{Type: "string"} }
func (*boolean) schema() *jsonschema.Schema { return &jsonschema.Schema{Type: "boolean"} }
func (*count) schema() *jsonschema.Schema   { return &jsonschema.Schema{Type: "integer"} }

func (*later) schema() *jsonschema.Schema { return jsonschema.FalseSchema }

func (*duration) schema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:     "string",
		Pattern:  `^([0-9]+(d|h|m|s|ms))+$`,
		Examples: []any{"10s", "1d12h", "90d"},
	}
}

func (*size) schema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:     "string",
		Pattern:  `^[0-9]+(B|KiB|MiB|GiB)$`,
		Examples: []any{"64KiB", "1MiB"},
	}
}

func (*list[T]) schema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "array", Items: reflected(reflect.TypeFor[T]())}
}

func (*table[T]) schema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:                 "object",
		PropertyNames:        &jsonschema.Schema{Pattern: namePattern},
		AdditionalProperties: reflected(reflect.TypeFor[T]()),
	}
}

func (*automatic) schema() *jsonschema.Schema {
	names := reflected(reflect.TypeFor[list[text]]())
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string", Enum: []any{"auto"}}, names}}
}

func (*rawListener) schema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, reflected(reflect.TypeFor[rawSocket]())}}
}

func (*orNone[T]) schema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{noneSchema(), reflected(reflect.TypeFor[T]())}}
}

func (*rawProbes) schema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		noneSchema(),
		reflected(reflect.TypeFor[rawProbe]()),
		{Type: "array", Items: reflected(reflect.TypeFor[rawProbe]())},
	}}
}

func noneSchema() *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Enum: []any{"none"}} }
