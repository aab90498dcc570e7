/** Column names are snake_case, members of values camelCase; the two are turned into each other only here. */
type Camel<S extends string> = S extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : S;
export type CamelRow<R> = { [K in keyof R as K extends string ? Camel<K> : never]: R[K] };

const camelOf = (column: string): string =>
  column.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const snakeOf = (member: string): string => member.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/**
 * Reads rows as values of the named columns and no others: what a statement returns besides, a sealed credential
 * perhaps, does not travel along by accident.
 */
export function makeReader<R extends object>(columns: readonly string[]): (row: R) => CamelRow<R> {
  const pairs = columns.map((column) => [column, camelOf(column)] as const);
  return (row) => {
    const from = row as Record<string, unknown>;
    const value: Record<string, unknown> = {};
    for (const [column, member] of pairs) value[member] = from[column];
    return value as CamelRow<R>;
  };
}

const snakeNames = new Map<string, string>();

/** A value as an object for `json_to_recordset`: the statement names the columns that it takes, and ignores the rest. */
export function toSnake(value: object): Record<string, unknown> {
  const row: Record<string, unknown> = {};
  for (const [member, content] of Object.entries(value)) {
    const column = snakeNames.get(member) ?? snakeOf(member);
    snakeNames.set(member, column);
    row[column] = content;
  }
  return row;
}

/** For `SELECT ${columnsOf(names, 't')} FROM tasks t`. */
export const columnsOf = (names: readonly string[], alias: string): string =>
  names.map((name) => `${alias}.${name}`).join(', ');
