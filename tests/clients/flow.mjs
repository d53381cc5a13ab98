// What the Node programs share: where their libraries lie, the choice of a flow by its name, and what a flow may ask of
// the test that runs it. flow.py tells of these questions; they are the same here.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

/** Loads a library from the directory of the installed ones. */
export const library = createRequire(`${process.env.CLIENT_LIBRARIES}/package.json`);

/** Where the server of this flow listens. */
export const port = Number(process.argv[3]);

let answers;

export async function ask(...words) {
  answers ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  process.stdout.write(`> ${words.join(' ')}\n`);
  const { value } = await answers.next();
  if (!value) throw new Error(`no answer to ${words}`);
  return value;
}

/** Waits until a condition holds; names it when it does not come. */
export async function eventually(condition, what) {
  const deadline = Date.now() + 20_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await sleep(5);
  }
}

/** The promise fails with a message that begins so. */
export async function rejects(promise, text) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    if (!error.message.startsWith(text)) throw new Error(`"${error.message}" does not begin with "${text}"`);
    return error;
  }
  throw new Error(`${JSON.stringify(value)} instead of ${text}`);
}

/** An array of what the function makes of 0, 1, ... */
export const times = (count, make) => Array.from({ length: count }, (_, number) => make(number));

/** Runs the flow of the command line to its end, whatever connections are still open then. */
export async function run(flows) {
  const flow = flows[process.argv[2]];
  try {
    if (!flow) throw new Error(`no flow is named ${process.argv[2]}`);
    await flow();
    process.exit(0);
  } catch (error) {
    console.log(error);
    process.exit(1);
  }
}
