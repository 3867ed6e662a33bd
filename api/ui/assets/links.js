// Where each view is, in the part of the address that no server sees.

import { path } from "./api.js";

export const topicLink = (topic) => path`#/topics/${topic}`;
export const schedulesLink = (topic) => path`#/topics/${topic}/schedules`;
export const subscriberLink = (topic, subscriber) =>
  path`#/topics/${topic}/subscribers/${subscriber}`;
export const deadLink = (topic, subscriber) =>
  path`#/topics/${topic}/subscribers/${subscriber}/dead`;
export const messageLink = (topic, id) => path`#/topics/${topic}/messages/${id}`;
