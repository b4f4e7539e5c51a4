package main

import (
	"go/ast"
	"go/token"
	"testing"
)

// TestHouseNames: what a package exports says what it is, and no variable of a package
// changes while the program runs.
func TestHouseNames(t *testing.T) {
	variables := map[string]map[string]bool{} // by package
	var files []file
	for _, f := range parseModule(t) {
		if f.test {
			continue
		}
		files = append(files, f)
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exported(d.Recv) {
					t.Errorf("%s: %s has no comment", f.name, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					checkSpec(t, f, d, s)
					v, ok := s.(*ast.ValueSpec)
					if !ok || d.Tok != token.VAR {
						continue
					}
					if variables[f.pkg] == nil {
						variables[f.pkg] = map[string]bool{"_": false}
					}
					for _, n := range v.Names {
						variables[f.pkg][n.Name] = n.Name != "_"
					}
				}
			}
		}
	}
	for _, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			var changed []ast.Expr
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					changed = n.Lhs
				}
			case *ast.IncDecStmt:
				changed = []ast.Expr{n.X}
			}
			for _, e := range changed {
				// What is declared in the package; a parameter of the same name is not.
				if id := root(e); id != nil && variables[f.pkg][id.Name] && !local(f.ast, id) {
					t.Errorf("%s changes %s, a variable of the package", f.name, id.Name)
				}
			}
			return true
		})
	}
}

// exported says whether a method's receiver is; without one it is a function.
func exported(recv *ast.FieldList) bool {
	if recv == nil {
		return true
	}
	e := recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if generic, ok := e.(*ast.IndexExpr); ok {
		e = generic.X
	}
	id, ok := e.(*ast.Ident)
	return ok && id.IsExported()
}

// checkSpec wants a comment on an exported type, constant or variable, or on the block
// that it stands in.
func checkSpec(t *testing.T, f file, d *ast.GenDecl, s ast.Spec) {
	t.Helper()
	said := d.Doc != nil
	var names []*ast.Ident
	switch s := s.(type) {
	case *ast.TypeSpec:
		said = said || s.Doc != nil || s.Comment != nil
		names = []*ast.Ident{s.Name}
	case *ast.ValueSpec:
		said = said || s.Doc != nil || s.Comment != nil
		names = s.Names
	}
	for _, n := range names {
		if n.IsExported() && !said {
			t.Errorf("%s: %s has no comment", f.name, n.Name)
		}
	}
}

// root is the variable that an expression is a part of.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.Ident:
			return x
		default:
			return nil
		}
	}
}

// local says whether a name is declared again in the declaration that it stands in.
func local(tree *ast.File, id *ast.Ident) (yes bool) {
	for _, d := range tree.Decls {
		if id.Pos() < d.Pos() || id.End() > d.End() {
			continue
		}
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, l := range n.Lhs {
					if x, ok := l.(*ast.Ident); ok && n.Tok == token.DEFINE && x.Name == id.Name {
						yes = true
					}
				}
			case *ast.ValueSpec:
				for _, x := range n.Names {
					yes = yes || x.Name == id.Name
				}
			case *ast.Field:
				for _, x := range n.Names {
					yes = yes || x.Name == id.Name
				}
			}
			return true
		})
	}
	return yes
}
