import { describe, expect, test } from '@jest/globals';
import { rawMember } from '../../src/orchestrators/raw-member.js';
import { spawnBody, type SpawnTask } from '../../src/orchestrators/spawn-request.js';

const task: SpawnTask = {
  id: 'task_1',
  attempt: 2,
  type: 'worker',
  title: 'Say "hi"\n',
  reference: null,
  priority: 1,
  workspaceId: 'ws:1',
  tags: ['a', 'b'],
  createdAt: new Date('2026-03-01T12:00:00.5Z'),
  deadlineAt: new Date('2026-03-02T00:00:00Z'),
};

describe('the spawn body', () => {
  test('is these bytes, whatever the order of the members given', () => {
    const shuffled = Object.fromEntries(Object.entries(task).toReversed()) as SpawnTask;
    const body = spawnBody(shuffled, '{ "n":1e400 }', '{"b":1, "a":2}', 'http://h/cb?x="', 'cb1.t');
    expect(body).toBe(
      '{"task":{"id":"task_1","attempt":2,"type":"worker","title":"Say \\"hi\\"\\n","reference":null,"priority":1,' +
        '"workspaceId":"ws:1","tags":["a","b"],"metadata":{"b":1, "a":2},"createdAt":"2026-03-01T12:00:00.500Z",' +
        '"deadlineAt":"2026-03-02T00:00:00.000Z"},"context":{ "n":1e400 },"callback_url":"http://h/cb?x=\\"",' +
        '"callback_token":"cb1.t"}',
    );
    expect(spawnBody(task, '{ "n":1e400 }', '{"b":1, "a":2}', 'http://h/cb?x="', 'cb1.t')).toBe(body);
  });

  test('carries payloads untouched and has the members for what there is none of', () => {
    const context = '{"__proto__":[9007199254740993, 1.0,"\\ud800\\u0000"] ,"a":1,"a":2}';
    const body = spawnBody(
      { ...task, title: null, workspaceId: null, deadlineAt: null, tags: [] },
      context,
      null,
      'u',
      't',
    );
    expect(rawMember(body, 'context')).toBe(context);
    expect(JSON.parse(rawMember(body, 'task') ?? '')).toMatchObject({
      title: null,
      workspaceId: null,
      deadlineAt: null,
      tags: [],
      metadata: {},
    });
  });
});

describe('a raw member', () => {
  test.each<[string, string, string | null]>([
    ['{"result":1}', 'a number', '1'],
    [' \n{ "result" : 1.50e+3 \t, "x":2}', 'a number with blanks around it', '1.50e+3'],
    ['{"result":null}', 'null', 'null'],
    ['{"result": "a\\"}b\\\\"}', 'a string with quotes and braces in it', '"a\\"}b\\\\"'],
    [
      '{"x":{"result":1},"y":[{"result":2}],"result":[{},[],"]"]}',
      'a list, not its namesakes within',
      '[{},[],"]"]',
    ],
    ['{"a":"result","result":{"a":{"b":"}"}}}', 'an object', '{"a":{"b":"}"}}'],
    ['{"result":1,"result":2}', 'the last of two', '2'],
    ['{"re\\u0073ult":true}', 'one whose name is escaped', 'true'],
    ['{"__proto__":{"result":1}}', 'none', null],
    ['{}', 'none in an empty object', null],
    ['[{"result":1}]', 'none in a list', null],
    ['"result"', 'none in a string', null],
    ['{"x":-0,"result":-0}', 'a negative zero', '-0'],
  ])('of %s is %s', (text, _name, expected) => {
    expect(rawMember(text, 'result')).toBe(expected);
  });

  test('of any depth is found without recursion', () => {
    const deep = `${'['.repeat(500_000)}${']'.repeat(500_000)}`;
    expect(rawMember(`{"a":${deep},"result":${deep}}`, 'result')).toBe(deep);
  });
});
