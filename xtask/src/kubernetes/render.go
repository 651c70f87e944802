// Renders a chart as Helm would, as far as ours goes: text/template, sprig and YAML are the libraries that Helm is made of,
// and what Helm adds to them is below. There are no subcharts and no hooks, and nobody asks a cluster.
//
//	render chart FOLDER KUBERNETES-VERSION [VALUES-FILE...]   the objects, the values and the notes, as JSON
//	render objects < YAML                                     the objects of a stream, as JSON
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

// files is `.Files` of a template: what the chart's folder has beside templates.
type files map[string]string

func (all files) Get(name string) string { return all[name] }

func (all files) Glob(pattern string) (files, error) {
	found := files{}
	for name, text := range all {
		matches, err := path.Match(pattern, name)
		if err != nil {
			return nil, err
		}
		if matches {
			found[name] = text
		}
	}
	return found, nil
}

func main() {
	answer, err := run(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) (interface{}, error) {
	if len(arguments) == 1 && arguments[0] == "objects" {
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, err
		}
		return objects(string(text))
	}
	if len(arguments) < 3 || arguments[0] != "chart" {
		return nil, fmt.Errorf("render chart FOLDER KUBERNETES-VERSION [VALUES-FILE...], or render objects")
	}
	return chart(arguments[1], arguments[2], arguments[3:])
}

func chart(folder, kubernetes string, overlays []string) (interface{}, error) {
	all := files{}
	err := filepath.WalkDir(folder, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		name, err = filepath.Rel(folder, name)
		all[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	about, values := object{}, object{}
	if err := yaml.UnmarshalStrict([]byte(all["Chart.yaml"]), &about); err != nil {
		return nil, fmt.Errorf("Chart.yaml: %w", err)
	}
	for _, name := range append([]string{filepath.Join(folder, "values.yaml")}, overlays...) {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		overlay := object{}
		if err := yaml.UnmarshalStrict(text, &overlay); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		lay(values, overlay)
	}
	var schema interface{}
	if err := json.Unmarshal([]byte(all["values.schema.json"]), &schema); err != nil {
		return nil, fmt.Errorf("values.schema.json: %w", err)
	}
	if err := patterns(schema); err != nil {
		return nil, fmt.Errorf("values.schema.json: %w", err)
	}
	rendered, err := templates(all, object{
		"Values": values,
		// Fields of Chart.yaml begin with a capital letter in templates.
		"Chart":        object{"Name": about["name"], "Version": about["version"], "AppVersion": about["appVersion"]},
		"Release":      object{"Name": about["name"], "Namespace": "monitoring", "Service": "Helm", "IsInstall": true, "IsUpgrade": false, "Revision": 1},
		"Capabilities": object{"KubeVersion": object{"Version": "v" + kubernetes}},
	})
	if err != nil {
		return nil, err
	}
	notes := rendered["templates/NOTES.txt"]
	delete(rendered, "templates/NOTES.txt")
	found := []object{}
	for name, text := range rendered {
		objects, err := objects(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", name, err, text)
		}
		found = append(found, objects...)
	}
	return object{"chart": about, "values": values, "notes": notes, "objects": found}, nil
}

// patterns compiles each pattern of a schema: Helm's are Go's, which are not those of whoever else reads schemas.
func patterns(schema interface{}) error {
	switch schema := schema.(type) {
	case []interface{}:
		for _, below := range schema {
			if err := patterns(below); err != nil {
				return err
			}
		}
	case object:
		for key, below := range schema {
			if pattern, ok := below.(string); ok && key == "pattern" {
				if _, err := regexp.Compile(pattern); err != nil {
					return err
				}
			} else if err := patterns(below); err != nil {
				return err
			}
		}
	}
	return nil
}

// lay puts values over others, map by map; null takes one away.
func lay(under, over object) {
	for key, value := range over {
		below, isMap := under[key].(object)
		if above, ok := value.(object); ok && isMap {
			lay(below, above)
		} else if value == nil {
			delete(under, key)
		} else {
			under[key] = value
		}
	}
}

func templates(all files, root object) (map[string]string, error) {
	set := template.New("").Option("missingkey=zero")
	functions := sprig.TxtFuncMap()
	// What Helm takes away: a chart is not to see who renders it.
	delete(functions, "env")
	delete(functions, "expandenv")
	execute := func(name string, data interface{}) (string, error) {
		var text bytes.Buffer
		err := set.ExecuteTemplate(&text, name, data)
		return strings.ReplaceAll(text.String(), "<no value>", ""), err
	}
	functions["include"] = execute
	functions["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", message)
		}
		return value, nil
	}
	set.Funcs(functions)
	beside := files{}
	for name, text := range all {
		if !strings.HasPrefix(name, "templates/") {
			beside[name] = text
		} else if _, err := set.New(name).Parse(text); err != nil {
			return nil, err
		}
	}
	root["Files"] = beside
	rendered := map[string]string{}
	for name := range all {
		if !strings.HasPrefix(name, "templates/") || strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		data := object{"Template": object{"Name": name}}
		for key, value := range root {
			data[key] = value
		}
		text, err := execute(name, data)
		if err != nil {
			return nil, err
		}
		rendered[name] = text
	}
	return rendered, nil
}

// objects reads a stream of YAML documents; what has no object in it is left out, and a key that is there twice is an error.
func objects(text string) ([]object, error) {
	found := []object{}
	for _, document := range strings.Split("\n"+text, "\n---") {
		one := object{}
		if err := yaml.UnmarshalStrict([]byte(document), &one); err != nil {
			return nil, err
		}
		if len(one) > 0 {
			found = append(found, one)
		}
	}
	return found, nil
}
