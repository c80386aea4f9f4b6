// Package rows holds spans in columns: in memory, as they arrive, and in blocks
// on disk. Both sides have the same units, so that a reader does not care where
// a span lies.
//
//	Source (TableView, Block)
//	  ├─ Space                       shared by the groups of the source
//	  │    Columns   level, key, type of every attribute column
//	  │    Shapes    name, kind, scope, flags, list of columns
//	  │    Scopes, Resources
//	  │    Dictionary of a column    strings that codes stand for
//	  └─ Group, Group, …             up to MaxGroupRows rows each
//	       rows      shape, resource, start, duration, status, span id, parent
//	       traces    id, first row
//	       events    shape, time           links   shape, trace id, span id
//	       columns   values, one for every occurrence in a row's shape
//
// A row says its shape, and the shape says which columns the row has values in:
//
//	shapes[row]   3        5        3            shape 3: columns 7, 9
//	column 7      a                 b            shape 5: columns 9, 4
//	column 9      x        y        z
//	column 4               1
//
// so a column holds nothing for rows without it, and value i of a column belongs
// to the i-th occurrence of the column in row order (Cursor.RowsOf).
//
// A Table is the memory side. Append sorts a batch by trace and start, drops exact
// duplicates of what the table has, and makes a group of the rest at once; the
// groups of small batches are folded into larger ones as they become many. A
// dictionary is given up for the groups to come when its column's values turn out
// to be mostly distinct.
//
// What holds:
//
//   - Rows of one trace lie together in a group and are ordered by start. A trace
//     may have rows in several groups.
//   - Attributes keep their order, their duplicates and their types; nothing that
//     a span can say in OTLP is lost. What few rows have (status message, trace
//     state, dropped counts) are columns of their own Role at the end of a shape.
//   - A Space has a bounded number of columns. What attributes have no column for
//     lies in the level's column of RoleRest, packed, in its place among the
//     others.
//   - Indexes (of columns, shapes, resources, dictionary codes) mean nothing
//     outside their Space.
//   - A Group never changes, nor does the Space of a view. One goroutine appends
//     to a Table; views are read by any number of others meanwhile.
package rows
