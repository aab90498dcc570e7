import { readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';

/** The rules of the house, executed: what a reader may rely on without reading everything. */
const root = resolve(process.cwd());
const folders = ['src', 'test', 'examples', 'bench', 'scripts'];

type SourceFile = { readonly path: string; readonly text: string; readonly code: string };

function filesUnder(folder: string): string[] {
  try {
    return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.parentPath.includes('node_modules'))
      .map((entry) => relative(root, join(entry.parentPath, entry.name)));
  } catch {
    return []; // not every folder is there in every checkout
  }
}

/** Comments and the insides of strings may name what code may not use. */
function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, '');
}

const all: readonly string[] = folders.flatMap(filesUnder).sort();
const sources: readonly SourceFile[] = all
  .filter((path) => /\.(ts|mts|mjs|js)$/.test(path))
  .map((path) => {
    const text = readFileSync(join(root, path), 'utf8');
    return { path, text, code: withoutComments(text) };
  });
const inFolder = (folder: string): readonly SourceFile[] =>
  sources.filter(({ path }) => path.startsWith(`${folder}/`));

const importPattern =
  /(?:^|\n)\s*(?:import|export)\b[^;'"]*?\bfrom\s*'([^']+)'|\bimport\(\s*'([^']+)'\s*\)|(?:^|\n)\s*import\s*'([^']+)'/g;

/** Every module that a file names: a path within the repository, or a package. */
function importsOf({ path, code }: SourceFile): string[] {
  return [...code.matchAll(importPattern)].flatMap((match) => {
    const name = match[1] ?? match[2] ?? match[3] ?? '';
    if (!name.startsWith('.')) return [name];
    return [relative(root, resolve(root, dirname(path), name)).replace(/\.js$/, '.ts')];
  });
}

const valueImportsOf = (file: SourceFile): string[] =>
  importsOf({ ...file, code: file.code.replaceAll(/^\s*(import|export) type\b[^;]*;/gm, '') });

const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const manifest = JSON.parse(read('package.json')) as {
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  overrides?: Record<string, string>;
};

describe('imports', () => {
  /** Whom each folder of src may import besides itself; files at its root (logger, config, …) are told apart below. */
  const allowed: Readonly<Record<string, readonly string[]>> = {
    domain: [],
    db: ['domain'],
    queues: ['domain'],
    orchestrators: ['domain'],
    workers: ['domain', 'db', 'queues', 'orchestrators'],
    api: ['domain', 'db', 'queues', 'orchestrators'],
    embedded: [],
    start: ['embedded', 'db'],
    cli: [],
    sdk: [],
    console: [],
  };
  /** Pure of IO at load, or the only readers of env and signals: mains put them together, the rest may know their types. */
  const edges = ['src/logger.ts', 'src/metrics.ts', 'src/seal.ts'];
  /** Known by their types only: a main reads the configuration and runs the process, and hands both down. */
  const edgeTypes = ['src/config.ts', 'src/process.ts'];
  const folderOf = (path: string): string => path.split('/')[1] ?? '';
  const isMain = (path: string): boolean => path.endsWith('.main.ts');

  test('are found at all', () => {
    const count = sources.reduce((sum, file) => sum + importsOf(file).length, 0);
    expect(count).toBeGreaterThan(400);
  });

  test('every folder of src has its directions written here', () => {
    const known = new Set(
      inFolder('src')
        .filter(({ path }) => path.split('/').length > 2)
        .map(({ path }) => folderOf(path)),
    );
    expect([...known].filter((folder) => allowed[folder] === undefined)).toEqual([]);
  });

  test('run one way', () => {
    const wrong = inFolder('src').flatMap((file) => {
      if (isMain(file.path) || file.path.split('/').length === 2) return [];
      const from = folderOf(file.path);
      return importsOf(file)
        .filter((to) => to.startsWith('src/') && folderOf(to) !== from)
        .filter((to) => !(allowed[from] ?? []).includes(folderOf(to)))
        .filter((to) => from === 'domain' || !edges.includes(to))
        .filter((to) => !edgeTypes.includes(to) || valueImportsOf(file).includes(to))
        .map((to) => `${file.path} imports ${to}`);
    });
    expect(wrong).toEqual([]);
  });

  test('stay inside src: no source knows a test, an example or a bench', () => {
    const wrong = inFolder('src').flatMap((file) =>
      importsOf(file)
        .filter((to) => /^(test|examples|bench|scripts)\//.test(to))
        .map((to) => `${file.path} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  test('nobody imports a main', () => {
    const wrong = sources.flatMap((file) =>
      importsOf(file)
        .filter(isMain)
        .map((to) => `${file.path} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  test('the command line, the sdk and the examples know the contract, not the server', () => {
    const wrong = ['src/cli', 'src/sdk', 'examples'].flatMap((folder) =>
      inFolder(folder).flatMap((file) =>
        importsOf(file)
          .filter((to) => to.startsWith('src/') && !to.startsWith(`${folder}/`) && !to.startsWith('src/sdk/'))
          .map((to) => `${file.path} imports ${to}`),
      ),
    );
    expect(wrong).toEqual([]);
  });

  test('make no circle, types included', () => {
    const graph = new Map(sources.map((file) => [file.path, importsOf(file)]));
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) {
        circles.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
        return;
      }
      if (done.has(path)) return;
      for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
      done.add(path);
    };
    for (const path of graph.keys()) visit(path, []);
    expect(circles).toEqual([]);
  });

  test('name only packages that package.json names', () => {
    const known = new Set([
      ...Object.keys(manifest.dependencies),
      ...Object.keys(manifest.optionalDependencies ?? {}),
    ]);
    const packageOf = (name: string): string =>
      name
        .split('/')
        .slice(0, name.startsWith('@') ? 2 : 1)
        .join('/');
    const wrong = inFolder('src').flatMap((file) =>
      importsOf(file)
        .filter((to) => !to.startsWith('node:') && !/^(src|package\.json)\b/.test(to))
        .filter((to) => !known.has(packageOf(to)))
        .map((to) => `${file.path} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });
});

describe('the Procfile', () => {
  test('starts every main that is a process of its own, and nothing else', () => {
    const started = [...read('Procfile').matchAll(/dist\/(\S+)\.js/g)]
      .map((match) => `${match[1]}.ts`)
      .sort();
    const notOfTheProcfile = ['src/start.main.ts', 'src/embedded/host.main.ts'];
    const mains = inFolder('src')
      .map(({ path }) => path)
      .filter(
        (path) =>
          path.endsWith('.main.ts') && !path.startsWith('src/cli/') && !notOfTheProcfile.includes(path),
      )
      .sort();
    expect(started).toEqual(mains);
  });
});

describe('names and sizes', () => {
  const forbidden = /^(utils?|helpers?|common|services?|managers?|misc|base|index)$/i;

  test('no folder and no file is a drawer for everything, and no file is a barrel', () => {
    const wrong = all.filter((path) =>
      path.split('/').some((part) => forbidden.test(part.replace(/(\.main|\.test)?\.(ts|mjs|js)$/, ''))),
    );
    expect(wrong).toEqual([]);
    const barrels = inFolder('src')
      .filter(({ code }) => /^\s*export\s+\*/m.test(code))
      .map(({ path }) => path);
    expect(barrels).toEqual([]);
  });

  test('no file of src exports a default', () => {
    const wrong = [...inFolder('src'), ...inFolder('examples')]
      .filter(({ code }) => /^\s*export\s+default\b|\bas default\b/m.test(code))
      .map(({ path }) => path);
    expect(wrong).toEqual([]);
  });

  test('no file of src or of the examples is longer than 250 lines', () => {
    const wrong = [...inFolder('src'), ...inFolder('examples')]
      .filter(({ path }) => !path.startsWith('src/db/migrations/'))
      .map(({ path, text }) => ({ path, lines: text.trimEnd().split('\n').length }))
      .filter(({ lines }) => lines > 250)
      .map(({ path, lines }) => `${path} has ${lines}`);
    expect(wrong).toEqual([]);
  });

  test('no class but an error, and no enum', () => {
    const wrong = inFolder('src')
      .filter(
        ({ code }) =>
          /^\s*(?:export\s+)?(?:abstract\s+)?class\s+\w+(?!\w*\s+extends\s+\w*Error)/m.test(code) ||
          /^\s*(?:export\s+)?(?:const\s+)?enum\s/m.test(code),
      )
      .map(({ path }) => path);
    expect(wrong).toEqual([]);
  });
});

describe('the domain', () => {
  test.each([
    ['the clock', /\bDate\.now\b|\bnew Date\(\s*\)|\bperformance\./],
    ['the dice', /\bMath\.random\b|\brandomBytes\b|\bcrypto\./],
    ['the environment', /\bprocess\.|\bglobalThis\.|\bimport\.meta\b/],
    ['the timers', /\bset(Timeout|Interval|Immediate)\b/],
    ['the console', /\bconsole\./],
  ])('does not read %s (I6)', (_, pattern) => {
    expect(
      inFolder('src/domain')
        .filter(({ code }) => pattern.test(code))
        .map(({ path }) => path),
    ).toEqual([]);
  });

  test('imports nothing but itself: no package, no node module', () => {
    const wrong = inFolder('src/domain').flatMap((file) =>
      importsOf(file)
        .filter((to) => !to.startsWith('src/domain/'))
        .map((to) => `${file.path} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });
});

describe('citations', () => {
  test('name invariants and promises that exist', () => {
    const wrong = [...sources].flatMap(({ path, text }) =>
      [...text.matchAll(/\(([IP]\d+(?:, [IP]\d+)*)\)/g)].flatMap((match) =>
        (match[1] ?? '')
          .split(', ')
          .filter((cited) => !/^(I[1-9]|P([1-9]|1[0-8]))$/.test(cited))
          .map((cited) => `${path} cites ${cited}`),
      ),
    );
    expect(wrong).toEqual([]);
  });

  test('are written down where a reader looks for them', () => {
    const architecture = read('ARCHITECTURE.md');
    const promises = read('docs/promises.md');
    const missing = [
      ...Array.from({ length: 9 }, (_, index) => `I${index + 1}`).filter(
        (name) => !new RegExp(`\\b${name}\\b`).test(architecture),
      ),
      ...Array.from({ length: 18 }, (_, index) => `P${index + 1}`).filter(
        (name) => !new RegExp(`\\b${name}\\b`).test(promises),
      ),
    ];
    expect(missing).toEqual([]);
  });
});

describe('dependencies', () => {
  type Locked = {
    readonly version?: string;
    readonly resolved?: string;
    readonly engines?: { readonly node?: string };
    readonly optional?: boolean;
  };
  const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, Locked> };
  const locked = Object.entries(lock.packages).filter(([path]) => path !== '');

  /** Whether a range such as `^20.19.0 || >=22.12.0` or `18 || 20` has room for 20.19. */
  const ours = 20_019;
  function takesNode20(range: string): boolean {
    const meets = (comparator: string): boolean => {
      const match = /^(\^|~|>=|<=|>|<|=)?v?(\d+|\*|x)(?:\.(\d+|x))?(?:\.\S+)?$/.exec(comparator);
      if (match === null) return false;
      const [, sign = '', major = '', minor = ''] = match;
      if (major === '*' || major === 'x') return true;
      const wanted = Number(major) * 1000 + (Number(minor) || 0);
      if (sign.startsWith('>')) return ours >= wanted;
      if (sign.startsWith('<')) return ours < wanted || sign === '<=';
      return Number(major) === 20 && ours >= wanted && (sign !== '~' || ours === wanted);
    };
    return range.split('||').some((part) =>
      part
        .trim()
        .replaceAll(/(>=|<=|>|<)\s+/g, '$1')
        .split(/\s+/)
        .every((comparator) => comparator === '' || meets(comparator)),
    );
  }

  test('are at most twelve in production', () => {
    expect(Object.keys(manifest.dependencies).length).toBeLessThanOrEqual(12);
  });

  test('are pinned exactly', () => {
    const pins = Object.entries({
      ...manifest.dependencies,
      ...manifest.devDependencies,
      ...manifest.optionalDependencies,
      ...manifest.overrides,
    });
    expect(pins.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))).toEqual([]);
  });

  test('are locked without the name of a host', () => {
    expect(locked.filter(([, { resolved }]) => resolved !== undefined).map(([path]) => path)).toEqual([]);
  });

  test('all run on Node 20', () => {
    expect([takesNode20('>=20'), takesNode20('^18.17.0 || ^20.3.0 || >=21'), takesNode20('>= 0.8')]).toEqual([
      true,
      true,
      true,
    ]);
    expect([takesNode20('>=22'), takesNode20('^22.0.0 || 24'), takesNode20('^18')]).toEqual([
      false,
      false,
      false,
    ]);
    const wrong = locked.filter(
      ([, { engines }]) => engines?.node !== undefined && !takesNode20(engines.node),
    );
    expect(wrong.map(([path, { engines }]) => `${path} wants ${engines?.node}`)).toEqual([]);
  });
});

describe('tests', () => {
  const testFiles = inFolder('test').filter(({ path }) => path.endsWith('.test.ts'));

  /** Names as they stand in the text, under the describe that they stand in by their indentation. */
  function namesOf({ text }: SourceFile): string[] {
    const open: { readonly indent: number; readonly name: string }[] = [];
    return [
      ...text.matchAll(/^( *)(describe|test)(?:\.each\([\s\S]*?\n? *\]? *\))?\(\s*(['"`])(.*?)\3/gm),
    ].flatMap((match) => {
      const [, { length: indent } = '', kind, , name = ''] = match;
      while ((open.at(-1)?.indent ?? -1) >= indent) open.pop();
      const full = [...open.map((one) => one.name), name].join(' › ');
      if (kind === 'describe') open.push({ indent, name });
      return kind === 'test' ? [full] : [];
    });
  }

  test('are found at all', () => {
    expect(testFiles.flatMap(namesOf).length).toBeGreaterThan(300);
  });

  test('have names of their own within a file', () => {
    const wrong = testFiles.flatMap((file) => {
      const names = namesOf(file);
      return names
        .filter((name, index) => names.indexOf(name) !== index)
        .map((name) => `${file.path}: ${name}`);
    });
    expect(wrong).toEqual([]);
  });

  test('are neither skipped nor focused, and mock no module', () => {
    const self = basename(import.meta.url);
    const wrong = testFiles
      .filter(({ path }) => basename(path) !== self)
      .filter(({ code }) =>
        /\b(test|it|describe)\.(skip|only|todo)\b|\bx(test|it|describe)\(|\bjest\.(mock|fn|unstable_mockModule)\b/.test(
          code,
        ),
      )
      .map(({ path }) => path);
    expect(wrong).toEqual([]);
  });
});
