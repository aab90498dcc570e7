import { readFileSync } from 'node:fs';

/** One line of the Procfile, as a program and its arguments: no shell stands between it and our signals. */
export type ProcfileLine = {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
};

/** Reads `name: [exec] program arguments…`; `node` is the Node that runs this. Throws on any other line. */
export function readProcfile(file: string): ProcfileLine[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const parts = /^([a-z][a-z0-9-]*):\s*(?:exec\s+)?(\S+)((?:\s+\S+)*)$/.exec(line);
      if (parts === null)
        throw new Error(`${file} has a line that is not "name: program arguments": ${line}`);
      const [, name = '', program = '', rest = ''] = parts;
      const command = program === 'node' ? process.execPath : program;
      return { name, command, args: rest.split(/\s+/).filter((argument) => argument !== '') };
    });
}
